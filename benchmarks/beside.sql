-- What an Airflow 3.3 has beside runs and task instances, for the collectors that read it; some of it grows with the history.
SET session_replication_role = replica;
INSERT INTO team SELECT 'team-' || n FROM generate_series(0, 4) AS n;
INSERT INTO dag_bundle (name, active, last_refreshed) SELECT 'bundle-' || n, true, now() FROM generate_series(0, 4) AS n;
INSERT INTO dag_bundle_team SELECT 'bundle-' || n, 'team-' || n FROM generate_series(0, 4) AS n;
INSERT INTO dag_tag SELECT kind || ':' || right(dag_id, 1), dag_id FROM dag, unnest(ARRAY['tier', 'domain']) AS kind;
INSERT INTO import_error (timestamp, filename, bundle_name, stacktrace)
  SELECT now(), 'broken_' || n || '.py', 'bundle-' || n % 5, repeat('x', 2000) FROM generate_series(1, 10) AS n;
INSERT INTO dag_warning SELECT dag_id, 'non-existent pool', 'x', now() FROM dag ORDER BY dag_id LIMIT 20;
INSERT INTO backfill (dag_id, from_date, to_date, dag_run_conf, reprocess_behavior, max_active_runs, created_at, updated_at)
  SELECT dag_id, now(), now(), '{}', 'none', 1, now(), now() FROM dag ORDER BY dag_id LIMIT 3;
INSERT INTO asset (name, uri, "group", extra, created_at, updated_at)
  SELECT 'asset_' || n, 's3://lake/asset_' || n, 'asset', '{}', now(), now() FROM generate_series(0, 199) AS n;
INSERT INTO asset_active SELECT name, uri FROM asset;
INSERT INTO asset_event (asset_id, extra, source_task_id, source_dag_id, source_run_id, timestamp)
  SELECT asset.id, '{}', 'task_9', dag_id, run_id, end_date
  FROM dag_run JOIN asset ON name = 'asset_' || right(dag_id, 5)::int WHERE state = 'success' ORDER BY dag_run.id;
INSERT INTO asset_dag_run_queue SELECT asset.id, dag_id, now() FROM asset, (SELECT dag_id FROM dag ORDER BY 1 LIMIT 5) AS dag;
INSERT INTO deadline (id, created_at, last_updated_at, dagrun_id, deadline_time, missed, callback_id)
  SELECT gen_random_uuid(), run_after, run_after, id, run_after + interval '10 min', state = 'failed', gen_random_uuid()
  FROM dag_run WHERE right(dag_id, 5)::int < 500 AND state <> 'success';
INSERT INTO hitl_detail (ti_id, options, subject, params, created_at, responded_at, params_input)
  SELECT id, '["yes", "no"]', 'Go on?', '{}', queued_dttm, end_date, '{}'
  FROM task_instance WHERE task_id = 'task_5' AND right(dag_id, 5)::int < 100 AND state IN ('success', 'deferred');
INSERT INTO trigger (classpath, kwargs, created_date, triggerer_id)
  SELECT 'airflow.providers.standard.triggers.temporal.DateTimeTrigger', '{}', start_date, 1
  FROM task_instance WHERE state = 'deferred';
RESET session_replication_role;
VACUUM (ANALYZE) team, dag_bundle, dag_bundle_team, dag_tag, import_error, dag_warning, backfill, asset, asset_active,
  asset_event, asset_dag_run_queue, deadline, hitl_detail, trigger;
