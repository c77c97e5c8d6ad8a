package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The README has each line that is logged, with its level and keys, and no other.
func TestLogsAreDocumented(t *testing.T) {
	line := regexp.MustCompile(`log\.(Info|Warn|Error)\("([^"]+)"(.*)\)`)
	key := regexp.MustCompile(`, "([a-z]+)", `)
	var logged []string
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range line.FindAllStringSubmatch(string(source), -1) {
			row := fmt.Sprintf("| `%s` | %s |", m[2], strings.ToUpper(m[1]))
			for _, k := range key.FindAllStringSubmatch(m[3], -1) {
				row += " `" + k[1] + "`"
			}
			logged = append(logged, row)
		}
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	documented := regexp.MustCompile("(?m)^\\| `[^`]+` \\| (INFO|WARN|ERROR) \\|( `[a-z]+`)+").FindAllString(string(readme), -1)
	slices.Sort(logged)
	slices.Sort(documented)
	require.Equal(t, slices.Compact(logged), documented)
}
