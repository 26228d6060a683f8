set n 0
proc talk {c} { global n; if {[gets $c line] < 0} { if {[eof $c]} { close $c }; return }; incr n
  after 2 [list puts $c $n] }
proc new {c args} { fconfigure $c -buffering line -blocking 0; fileevent $c readable [list talk $c] }
socket -server new -myaddr 127.0.0.1 [lindex $argv 0]
vwait forever
