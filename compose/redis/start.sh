#!/bin/sh
# Redis or Valkey with the users that this stack needs: Airflow's, who may do everything, and three who may only look.
set -eu
umask 077

password() { # SECRET: an address that has it
    sed 's#.*://[^:]*:\([^@]*\)@.*#\1#' "/run/secrets/$1"
}

exporter=$(sed 's#.*"\([^"]*\)"}$#\1#' /run/secrets/redis_exporter_passwords)
# The second line is what `windsock grants redis` prints.
cat > /tmp/users.acl <<END
user default on >$(password airflow_broker_url) ~* &* +@all
user windsock on >$(password windsock_broker_url) resetkeys %R~* resetchannels -@all +select +dbsize +hlen +info +llen +scan +smembers +zrange
user exporter on >$exporter resetkeys resetchannels -@all +ping +info +config|get +latency +slowlog +client|setname
user health on nopass resetkeys resetchannels -@all +ping
END
exec "$(command -v redis-server || command -v valkey-server)" /etc/redis/redis.conf
