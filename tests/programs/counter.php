<?php
$all = [stream_socket_server("tcp://127.0.0.1:$argv[1]")];
for ($n = 0, $seen = [];;) {
    $ready = $all;
    $none = null;
    if (!@stream_select($ready, $none, $none, 1)) continue;
    foreach ($ready as $stream) {
        if ($stream === $all[0]) {
            $all[] = stream_socket_accept($stream);
        } elseif (fgets($stream) === false) {
            unset($all[array_search($stream, $all, true)]);
            fclose($stream);
        } else {
            $seen[++$n] = str_repeat("x", 100);
            fwrite($stream, "$n\n");
        }
    }
}
