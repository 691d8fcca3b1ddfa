<?php
// SPDX-License-Identifier: MIT
// For PHP-FPM: session_start() locks the session's file until the script ends.
if ($_SERVER['SCRIPT_NAME'] === '/healthz') {
    exit("ok\n");
}
if ($_SERVER['SCRIPT_NAME'] === '/session') {
    session_start();
}
usleep((int) (getenv('SECONDS') * 1e6));
echo "ok\n";
