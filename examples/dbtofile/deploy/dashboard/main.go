// Command dashboard prints the Grafana dashboard of pipelines as JSON, from code:
// a change is made here, and read as a change of code.
//
//	go run ./examples/dbtofile/deploy/dashboard >examples/dbtofile/deploy/grafana/dashboard.json
//
// The file is committed, and a test sees that it is what this prints. Its layout
// is in layout.go, one entry a panel: title, what it shows, its queries and the
// alert that belongs to it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	text, err := render()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
	os.Stdout.Write(text)
}

func render() ([]byte, error) {
	built, err := build()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(built, "", "  ")
	return append(text, '\n'), err
}
