#!/usr/bin/env bash
# Legacy applications with sessions of their own: PHP (PHPSESSID, files, also HTTP Basic) on APP_PHP_PORT, Express (connect.sid, Redis)
# on APP_EXPRESS_PORT, Redis on APP_REDIS_PORT. (The Django one, sessions in SQL, is start-dot.sh.)
. "$(dirname "$0")/lib.sh"
T0=$(now_ms); RP="${APP_REDIS_PORT:-7079}" PHP="http://127.0.0.1:${APP_PHP_PORT:-7081}" EX="http://127.0.0.1:${APP_EXPRESS_PORT:-7082}"
if running legacy-php && running legacy-express; then ready legacy-php "$T0" "$PHP"; ready legacy-express "$T0" "$EX"; exit 0; fi
apt_need php-cli redis-server
export APP_MODULES="$IDPS_CACHE/legacy-express"
[ -d "$APP_MODULES/node_modules/connect-redis" ] || { mkdir -p "$APP_MODULES"; (cd "$APP_MODULES" && npm install --no-audit --no-fund --silent express@5 express-session@1 connect-redis@9 redis@5); }
S="$IDPS_RUN/php-sessions"; rm -rf "$S"; mkdir -p "$S"
running legacy-redis || start_bg legacy-redis redis-server --bind 127.0.0.1 --port "$RP" --save "" --appendonly no --dir "$IDPS_RUN"
wait_port legacy-redis "$RP" 10
PHP_CLI_SERVER_WORKERS=4 start_bg legacy-php php -d session.save_path="$S" -d session.use_strict_mode=1 -S "${PHP#http://}" "$IDPS_DIR/legacy-apps/index.php"
REDIS_URL="redis://127.0.0.1:$RP" PORT="${EX##*:}" start_bg legacy-express node "$IDPS_DIR/legacy-apps/express.cjs"
wait_http legacy-php "$PHP/login" 10; wait_http legacy-express "$EX/login" 10
ready legacy-php "$T0" "$PHP"; ready legacy-express "$T0" "$EX"
