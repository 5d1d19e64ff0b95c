# The single-node parts of docs/TROUBLESHOOTING.md, as an operator would type them.

test "a port in use is named, and the status is 1" {
    set server [start_server]
    lassign [run $aikv --port [lindex $server 0]] status output
    stop_server $server
    assert_equal 1 $status
    assert_match "*Address already in use*" $output
}

test "a missing data directory's parent is named" {
    lassign [run $aikv --port [free_port] --dir /no/such/place] status output
    assert_equal 1 $status
    assert_match "*No such file or directory*" $output
}

test "configuration errors name file, line, option and reason" {
    set path $work/config.toml
    set file [open $path w]
    puts $file "\[server\]\nport = 70000"
    close $file
    lassign [run $aikv --config $path] status output
    assert_equal 1 $status
    assert_match "*Invalid configuration: *config.toml:2: port*1*65535*" $output
    set file [open $path w]
    puts $file "\[storage\]\nengine = \"rocks\""
    close $file
    lassign [run $aikv --check-config $path] status output
    assert_equal 1 $status
    assert_match "*Invalid configuration: *memory*aidb*" $output
}

test "errors read as the guide shows them" {
    set server [start_server]
    assert_equal OK [cli $server SET mykey hello]
    assert_match "*ERR wrong number of arguments for 'set' command*" [cli $server SET key]
    assert_equal string [cli $server TYPE mykey]
    assert_equal 1 [cli $server EXISTS mykey]
    assert_equal -1 [cli $server TTL mykey]
    assert_equal mykey [cli $server KEYS *]
    stop_server $server
}

test "the slow log, statistics and memory are there to be asked" {
    set server [start_server]
    cli $server CONFIG SET slowlog-log-slower-than 0
    cli $server SET mykey hello
    assert_match "*SET*mykey*hello*" [cli $server SLOWLOG GET 10]
    assert_match "*cmdstat_set:calls=1,*" [cli $server INFO commandstats]
    assert_match "*used_memory:*used_memory_human:*" [cli $server INFO memory]
    assert_match "*db0:keys=1,expires=0*" [cli $server INFO keyspace]
    assert_match "*connected_clients:1*" [cli $server INFO clients]
    assert_match "id=*addr=127.0.0.1:*cmd=client|list*" [cli $server CLIENT LIST]
    assert_match "*encoding:embstr*" [cli $server DEBUG OBJECT mykey]
    assert_equal 1 [cli $server DBSIZE]
    assert_match "*mykey*" [cli $server SCAN 0 COUNT 1000]
    stop_server $server
}

test "redis-cli --bigkeys reads the whole keyspace" {
    set server [start_server]
    cli $server SET mykey hello
    assert_match "*Biggest string found*mykey*5 bytes*" [cli $server --bigkeys]
    stop_server $server
}

test "MONITOR shows commands" {
    set server [start_server]
    set pipe [open "|redis-cli -p [lindex $server 0] MONITOR"]
    assert_equal OK [gets $pipe]
    cli $server SET mykey hello
    set line ""
    while {![string match "*SET*" $line]} { set line [gets $pipe] }
    assert_match {*"SET" "mykey" "hello"*} $line
    catch {exec kill [pid $pipe]}
    catch {close $pipe}
    stop_server $server
}

test "the log level changes at run time, and connections show at debug" {
    set server [start_server]
    cli $server CONFIG SET loglevel debug
    cli $server PING
    set log [exec cat [lindex $server 2]/log]
    assert_match "*INFO  aikv: Starting AiKv server on 127.0.0.1:*" $log
    assert_match "*DEBUG aikv*: New connection from 127.0.0.1:*" $log
    stop_server $server
}
