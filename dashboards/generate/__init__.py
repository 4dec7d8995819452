"""The Grafana dashboards as code: one module per board, on a thin layer over Grafana's SDK."""
