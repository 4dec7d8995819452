#!/bin/bash
# Makes or upgrades Airflow's tables, and makes the first user unless there is one.
set -euo pipefail
airflow db migrate
airflow users create --role Admin --username "$AIRFLOW_ADMIN" --password "$(cat /run/secrets/airflow_password)" \
    --firstname Airflow --lastname Admin --email "$AIRFLOW_ADMIN@example.com"
