P=.venv/bin/python
now() { date +%s.%N; }
t() { local s=$(now); "$@" >/dev/null; echo "$* $(awk "BEGIN{print $(now)-$s}")"; }
t $P -c ''
t $P -c 'import numpy'
t $P -c 'import numpy'
t $P -c 'import pytest, hypothesis'
t $P -c 'import pytest, hypothesis'
t $P -c ''
t $P -I -S -c ''
