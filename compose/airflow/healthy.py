"""Whether Airflow's API calls a component healthy; `airflow jobs check` would take seconds of a processor each time."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

PATHS = ("/api/v2/monitor/health", "/health")  # of Airflow 3 and of Airflow 2

for path in PATHS:
    try:
        with urllib.request.urlopen(f"http://airflow-api-server:8080{path}", timeout=10) as response:
            said = json.load(response)[sys.argv[1]]
    except urllib.error.HTTPError:
        continue
    except OSError as error:
        sys.exit(f"the API does not answer: {error}")
    sys.exit(None if said["status"] == "healthy" else f"{sys.argv[1]}: {said}")
sys.exit("the API has no page about the health of components")
