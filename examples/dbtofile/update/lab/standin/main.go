// Command standin takes the place of a dbtofile that does not do well. What it
// is to be like stands at the end of its own file: a line with its version and its
// fault.
//
//	crash        ends at once
//	never-ready  runs, and is not ready
//	dies         does well for half a second, and ends
//	no-polls     says that it does well, and does not poll
//	none         does well, as far as can be told from outside
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	name, err := os.Executable()
	check(err)
	text, err := os.ReadFile(name)
	check(err)
	var version, fault string
	_, err = fmt.Sscan(string(text[bytes.LastIndexByte(text, '\n')+1:]), &version, &fault)
	check(err)
	if len(os.Args) > 1 && os.Args[1] == "-version" {
		fmt.Println("dbtofile", version, "(a stand-in)")
		return
	}
	if fault == "crash" {
		os.Exit(3)
	}
	listener, err := net.Listen("tcp", "127.0.0.1"+os.Getenv("DBTOFILE_LISTEN"))
	check(err)
	if fault == "dies" {
		time.AfterFunc(500*time.Millisecond, func() { os.Exit(4) })
	}
	if fault != "never-ready" {
		socket, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
		check(err)
		_, err = socket.Write([]byte("READY=1"))
		check(err)
	}
	check(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // for a test
		ready := fault != "never-ready"
		pipeline := map[string]any{"name": "orders", "words": "up to date", "live": true, "ready": ready, "attempts": 0, "interval_seconds": 0.1}
		if fault != "no-polls" && ready {
			pipeline["last_poll"] = time.Now()
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"version": version, "now": time.Now(), "live": true, "ready": ready, "pipelines": []any{pipeline}})
	})))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
