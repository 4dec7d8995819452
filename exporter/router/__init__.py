"""From alerts to Slack messages: stored before acknowledged, one message per group and destination."""
