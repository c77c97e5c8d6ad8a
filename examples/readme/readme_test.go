// Package main is the program in the README. Here it is compiled and vetted.
package main

import (
	"os"
	"strings"
	"testing"
)

func TestReadmeShowsThisProgram(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "\n```go\n")
	shown, _, _ := strings.Cut(rest, "```\n")
	if shown != string(program) {
		t.Error("README.md and examples/readme/main.go differ")
	}
}
