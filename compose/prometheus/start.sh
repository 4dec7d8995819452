#!/bin/sh
# Prometheus with the rules of ../alerts, whose links lead to this stack's Grafana, and to the runbooks where .env says who serves them.
set -eu
runbooks='/^ *runbook_url:/d'
[ -z "$RUNBOOKS_URL" ] || runbooks="s|https://windsock.example.com/runbooks|${RUNBOOKS_URL%/}|"
for rules in /mnt/alerts/*.rules.yml; do
    sed "s|https://grafana.example.com|${GRAFANA_URL%/}|; $runbooks" "$rules" > "/etc/alerts/${rules##*/}"
done
exec prometheus "$@"
