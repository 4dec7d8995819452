-- What Airflow 3.3 writes, by name. A statement may use %(now)s, and what is known of the task instance that it is for: the
-- fields of its DAG, its run, its task, and its own.

-- add_bundle
WITH bundle AS (INSERT INTO dag_bundle (name, active, last_refreshed) VALUES (%(name)s, true, %(now)s)),
  team AS (INSERT INTO team (name) SELECT %(team)s WHERE %(team)s IS NOT NULL)
INSERT INTO dag_bundle_team (dag_bundle_name, team_name) SELECT %(name)s, %(team)s WHERE %(team)s IS NOT NULL;

-- add_pool
INSERT INTO slot_pool (pool, slots, include_deferred) VALUES (%(name)s, %(slots)s, false)
ON CONFLICT DO NOTHING;

-- add_asset
WITH added AS (
  INSERT INTO asset (name, uri, "group", extra, created_at, updated_at)
  VALUES (%(name)s, 's3://lake/' || %(name)s, 'asset', '{}', %(now)s, %(now)s) RETURNING name, uri
)
INSERT INTO asset_active (name, uri) SELECT name, uri FROM added;

-- add_job
INSERT INTO job (job_type, state, start_date, latest_heartbeat, hostname, unixname)
VALUES (%(job_type)s, 'running', %(now)s, %(now)s, 'demo', 'airflow') RETURNING id;

-- add_dag
WITH dag AS (
  INSERT INTO dag (dag_id, dag_display_name, is_paused, is_stale, has_import_errors, fileloc, relative_fileloc, bundle_name,
    owners, timetable_type, timetable_summary, partition_mapper_info, max_active_tasks, max_active_runs,
    max_consecutive_failed_dag_runs, has_task_concurrency_limits, last_parsed_time, last_parse_duration, next_dagrun,
    next_dagrun_create_after)
  VALUES (%(dag_id)s, %(dag_id)s, %(trouble)s IS NOT DISTINCT FROM 'paused',
    %(trouble)s IS NOT DISTINCT FROM 'stale', %(trouble)s IS NOT DISTINCT FROM 'broken',
    '/opt/airflow/dags/' || %(dag_id)s || '.py', %(dag_id)s || '.py', %(bundle)s, %(owners)s, '', %(timetable)s, '{}', 16,
    %(max_active_runs)s, 0, false, %(now)s, 0.05 + length(%(dag_id)s) / 100.0, %(due)s, %(due)s)
), tag AS (
  INSERT INTO dag_tag (name, dag_id) SELECT unnest(%(tags)s::text[]), %(dag_id)s
), version AS (
  INSERT INTO dag_version (id, version_number, dag_id, bundle_name, created_at, last_updated)
  VALUES (%(version)s, 1, %(dag_id)s, %(bundle)s, %(now)s, %(now)s)
), serialized AS (
  INSERT INTO serialized_dag (id, dag_id, data, created_at, last_updated, dag_hash, dag_version_id)
  VALUES (%(serialized)s, %(dag_id)s, '{}', %(now)s, %(now)s, md5(%(dag_id)s), %(version)s)
), error AS (
  INSERT INTO import_error (timestamp, filename, bundle_name, stacktrace)
  SELECT %(now)s, %(dag_id)s || '.py', %(bundle)s, 'ModuleNotFoundError: No module named ''xgboost'''
  WHERE %(trouble)s = 'broken'
), warning AS (
  INSERT INTO dag_warning (dag_id, warning_type, message, timestamp)
  SELECT %(dag_id)s, 'non-existent pool', 'Dag uses a pool that does not exist', %(now)s WHERE %(trouble)s = 'overdue'
)
INSERT INTO dag_schedule_asset_reference (asset_id, dag_id, created_at, updated_at)
SELECT id, %(dag_id)s, %(now)s, %(now)s FROM asset WHERE name = ANY(%(assets)s::text[]);

-- add_backfill
INSERT INTO backfill (dag_id, from_date, to_date, dag_run_conf, is_paused, reprocess_behavior, max_active_runs, created_at,
  updated_at)
VALUES (%(dag_id)s, %(first)s, %(last)s, '{}', false, 'none', %(max_active_runs)s, %(now)s, %(now)s) RETURNING id;

-- add_backfill_run
INSERT INTO backfill_dag_run (backfill_id, dag_run_id, logical_date, sort_ordinal)
VALUES (%(backfill_id)s, %(run_key)s, %(date)s, %(ordinal)s);

-- add_run
INSERT INTO dag_run (dag_id, run_id, run_type, state, triggered_by, run_after, logical_date, data_interval_start,
  data_interval_end, backfill_id, creating_job_id, created_dag_version_id, conf, queued_at, created_at, updated_at)
VALUES (%(dag_id)s, %(run_id)s, %(run_type)s, 'queued', %(triggered_by)s, %(run_after)s, %(date)s, %(date)s, %(date)s,
  %(backfill_id)s, %(job)s, %(version)s, '{}', %(now)s, %(now)s, %(now)s) RETURNING id;

-- plan_next_run
UPDATE dag SET next_dagrun = %(due)s, next_dagrun_create_after = %(due)s, exceeds_max_non_backfill = %(held)s
WHERE dag_id = %(dag_id)s;

-- count_queued_assets
SELECT count(*) FROM asset_dag_run_queue WHERE target_dag_id = %(dag_id)s;

-- consume_assets
WITH queued AS (DELETE FROM asset_dag_run_queue WHERE target_dag_id = %(dag_id)s RETURNING asset_id, created_at)
INSERT INTO dagrun_asset_event (dag_run_id, event_id)
SELECT %(run_key)s, event.id FROM asset_event AS event JOIN queued USING (asset_id) WHERE event.timestamp >= queued.created_at;

-- add_deadline
WITH callback AS (
  INSERT INTO callback (id, type, fetch_method, data, state, priority_weight, created_at)
  VALUES (%(callback)s, 'triggerer', 'import_path', '{}', 'scheduled', 1, %(now)s)
)
INSERT INTO deadline (id, dagrun_id, deadline_time, missed, callback_id, created_at, last_updated_at)
VALUES (%(deadline)s, %(run_key)s, %(time)s, false, %(callback)s, %(now)s, %(now)s);

-- start_run
UPDATE dag_run SET state = 'running', start_date = %(now)s, updated_at = %(now)s WHERE id = %(run_key)s;

-- end_run
UPDATE dag_run SET state = %(state)s, end_date = %(now)s, updated_at = %(now)s WHERE id = %(run_key)s;

-- keep_deadlines
DELETE FROM callback WHERE id IN (SELECT callback_id FROM deadline WHERE dagrun_id = %(run_key)s AND NOT missed);

-- add_instance
INSERT INTO task_instance (id, dag_id, task_id, run_id, map_index, try_number, max_tries, pool, pool_slots, queue,
  priority_weight, operator, task_display_name, dag_version_id, hostname, unixname, updated_at)
VALUES (%(id)s, %(dag_id)s, %(task_id)s, %(run_id)s, %(map_index)s, 0, %(max_tries)s, %(pool)s, 1, %(queue)s,
  1, 'PythonOperator', %(task_id)s, %(version)s, '', 'airflow', %(now)s);

-- expand
UPDATE task_instance SET map_index = %(map_index)s, updated_at = %(now)s WHERE id = %(id)s;

-- give_up
UPDATE task_instance SET state = %(state)s, start_date = %(now)s, end_date = %(now)s, duration = 0, updated_at = %(now)s
WHERE id = %(id)s;

-- schedule
UPDATE task_instance SET state = %(state)s, scheduled_dttm = %(now)s, try_number = %(try_number)s, trigger_id = NULL,
  updated_at = %(now)s
WHERE id = %(id)s;

-- queue
UPDATE task_instance SET state = %(state)s, queued_dttm = %(now)s, queued_by_job_id = %(job)s,
  external_executor_id = %(message)s, updated_at = %(now)s
WHERE id = %(id)s;

-- start
UPDATE task_instance SET state = %(state)s, end_date = NULL, hostname = %(hostname)s, pid = 7, last_heartbeat_at = %(now)s,
  start_date = CASE WHEN next_method IS NULL THEN %(now)s ELSE start_date END, updated_at = %(now)s
WHERE id = %(id)s;

-- end
UPDATE task_instance SET state = %(state)s, end_date = %(now)s, duration = extract(epoch FROM %(now)s - start_date),
  next_method = NULL, updated_at = %(now)s
WHERE id = %(id)s;

-- archive
INSERT INTO task_instance_history (task_instance_id, state, dag_id, task_id, run_id, map_index, try_number, max_tries,
  start_date, end_date, duration, scheduled_dttm, queued_dttm, queued_by_job_id, hostname, unixname, pid, pool, pool_slots,
  queue, priority_weight, operator, task_display_name, dag_version_id, external_executor_id, updated_at)
SELECT id, 'failed', dag_id, task_id, run_id, map_index, try_number, max_tries,
  start_date, end_date, duration, scheduled_dttm, queued_dttm, queued_by_job_id, hostname, unixname, pid, pool, pool_slots,
  queue, priority_weight, operator, task_display_name, dag_version_id, external_executor_id, updated_at
FROM task_instance WHERE id = %(id)s;

-- renew
WITH reschedules AS (DELETE FROM task_reschedule WHERE ti_id = %(id)s)
UPDATE task_instance SET id = %(new)s WHERE id = %(id)s;

-- reschedule
INSERT INTO task_reschedule (ti_id, start_date, end_date, duration, reschedule_date)
SELECT id, start_date, %(now)s, extract(epoch FROM %(now)s - start_date), %(until)s FROM task_instance WHERE id = %(id)s;

-- defer
WITH trigger AS (
  INSERT INTO trigger (classpath, kwargs, created_date)
  VALUES ('airflow.providers.amazon.aws.triggers.s3.S3KeyTrigger', '{}', %(now)s) RETURNING id
)
UPDATE task_instance SET state = %(state)s, trigger_id = trigger.id, trigger_timeout = %(now)s + interval '10 minutes',
  next_method = 'execute_complete', updated_at = %(now)s
FROM trigger WHERE task_instance.id = %(id)s;

-- ask
WITH question AS (
  INSERT INTO hitl_detail (ti_id, subject, options, multiple, params, params_input, created_at)
  VALUES (%(id)s, 'Send it to all customers?', '["Approve", "Reject"]', false, '{}', '{}', %(now)s)
)
UPDATE task_instance SET state = %(state)s, trigger_timeout = %(now)s + interval '1 hour', next_method = 'execute_complete',
  updated_at = %(now)s
WHERE id = %(id)s;

-- answer
UPDATE hitl_detail SET responded_at = %(now)s, responded_by = '{"id": "mara", "name": "mara"}',
  chosen_options = '["Approve"]'
WHERE ti_id = %(id)s;

-- emit
WITH event AS (
  INSERT INTO asset_event (asset_id, extra, source_dag_id, source_task_id, source_run_id, source_map_index, timestamp)
  SELECT id, '{}', %(dag_id)s, %(task_id)s, %(run_id)s, %(map_index)s, %(now)s FROM asset WHERE name = %(outlet)s
  RETURNING asset_id
)
INSERT INTO asset_dag_run_queue (asset_id, target_dag_id, created_at)
SELECT asset_id, reference.dag_id, %(now)s FROM event JOIN dag_schedule_asset_reference AS reference USING (asset_id)
ON CONFLICT DO NOTHING;

-- log
INSERT INTO log (dttm, dag_id, task_id, run_id, map_index, try_number, event, owner)
VALUES (%(now)s, %(dag_id)s, %(task_id)s, %(run_id)s, %(map_index)s, %(try_number)s, %(state)s, %(owners)s);

-- pass_time
-- Heartbeats of the components, and of what runs.
UPDATE job SET latest_heartbeat = %(now)s WHERE state = 'running' AND latest_heartbeat <= %(now)s - interval '5 seconds';
UPDATE task_instance SET last_heartbeat_at = %(now)s
WHERE state = 'running' AND last_heartbeat_at <= %(now)s - interval '5 seconds';
-- The scheduler looks at each run; deadlines pass, and backfills come to their end.
UPDATE dag_run SET last_scheduling_decision = %(now)s, updated_at = %(now)s WHERE state = 'running';
UPDATE deadline SET missed = true, last_updated_at = %(now)s WHERE NOT missed AND deadline_time < %(now)s;
UPDATE backfill SET completed_at = %(now)s, updated_at = %(now)s WHERE completed_at IS NULL
  AND NOT EXISTS (SELECT FROM dag_run WHERE backfill_id = backfill.id AND state IN ('queued', 'running'));
-- The triggerer removes triggers that nobody waits for any more, and takes new ones.
DELETE FROM trigger WHERE NOT EXISTS (SELECT FROM task_instance WHERE trigger_id = trigger.id);
UPDATE trigger SET triggerer_id = (SELECT id FROM job WHERE job_type = 'TriggererJob') WHERE triggerer_id IS NULL;
-- The DAG processor parses.
UPDATE dag SET last_parsed_time = %(now)s
WHERE NOT is_stale AND NOT has_import_errors AND last_parsed_time <= %(now)s - interval '15 seconds';
UPDATE dag_bundle SET last_refreshed = %(now)s WHERE last_refreshed <= %(now)s - interval '15 seconds';
UPDATE import_error SET timestamp = %(now)s WHERE timestamp <= %(now)s - interval '15 seconds';
-- Somebody runs `airflow db clean`.
DELETE FROM dag_run WHERE end_date < %(now)s - interval '1 hour';
DELETE FROM asset_event WHERE timestamp < %(now)s - interval '1 hour';
DELETE FROM log WHERE dttm < %(now)s - interval '1 hour';
