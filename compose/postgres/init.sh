#!/bin/bash
# Run once, over an empty data directory: the owner of Airflow's tables, and the role that Windsock reads with.
# What that one may read is granted once there are tables, by the service windsock-grants.
set -euo pipefail
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres --dbname airflow <<'END'
\set airflow `sed 's#.*://[^:]*:\([^@]*\)@.*#\1#' /run/secrets/airflow_database_url`
\set windsock `cat /run/secrets/windsock_database_password`
CREATE ROLE airflow LOGIN PASSWORD :'airflow';
ALTER DATABASE airflow OWNER TO airflow;
CREATE ROLE windsock LOGIN PASSWORD :'windsock';
GRANT pg_read_all_stats TO windsock;
END
