# Our own Tcl tests: a server on a free port per file, a small client, and tests as `test name body`.
# Called by tests-tcl/run with the path of the binary. A test fails when its body raises an error.

set aikv [lindex $argv 0]
set here [file dirname [file normalize [info script]]]
set passed 0
set failed 0
set work [exec mktemp -d]

proc test {name body} {
    if {[catch {uplevel 1 $body} message]} {
        puts "\[err\]: $name\n    $message"
        incr ::failed
    } else {
        puts "\[ok\]: $name"
        incr ::passed
    }
}

proc assert {condition} {
    if {![uplevel 1 [list expr $condition]]} { error "does not hold: [uplevel 1 [list subst $condition]]" }
}

proc assert_equal {expected got} {
    if {$expected ne $got} { error "expected '$expected', got '$got'" }
}

proc assert_match {pattern got} {
    if {![string match $pattern $got]} { error "expected a match of '$pattern', got '$got'" }
}

proc free_port {} {
    set socket [socket -server {apply {{args} {}}} -myaddr 127.0.0.1 0]
    set port [lindex [fconfigure $socket -sockname] 2]
    close $socket
    return $port
}

# Starts a server with these options in a folder of its own; returns {port pid dir}.
proc start_server {args} {
    set port [free_port]
    set dir [exec mktemp -d -p $::work]
    set pid [exec $::aikv --port $port --dir $dir {*}$args > $dir/log 2>@1 &]
    for {set i 0} {$i < 200} {incr i} {
        if {![catch {exec redis-cli -p $port PING} reply] && $reply eq "PONG"} { return [list $port $pid $dir] }
        after 25
    }
    error "the server did not start: [exec cat $dir/log]"
}

proc stop_server {server} {
    lassign $server port pid dir
    catch {exec kill $pid}
    for {set i 0} {$i < 200} {incr i} {
        if {[catch {exec kill -0 $pid}]} { return }
        after 25
    }
    error "the server did not stop"
}

# One command through redis-cli.
proc cli {server args} {
    exec redis-cli -p [lindex $server 0] {*}$args
}

# Standard output, standard error and status of a command that may fail.
proc run {args} {
    set status [catch {exec {*}$args 2>@1} output options]
    return [list $status $output]
}

if {[catch {exec which redis-cli}]} {
    puts "redis-cli is missing: install redis-tools, for example with 'apt-get install redis-tools'"
    exit 1
}
foreach file [lsort [glob $here/own/*.tcl]] {
    puts "== [file rootname [file tail $file]]"
    if {[catch {source $file} message]} {
        puts "\[err\]: [file tail $file]: $::errorInfo"
        incr failed
    }
}
exec rm -rf $work
puts "$passed passed, $failed failed"
exit [expr {$failed > 0}]
