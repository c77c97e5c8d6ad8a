package conform

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source"
)

// JSON is the default for an option Text: it renders a record as JSON.
func JSON[T any](record T) string {
	b, err := json.Marshal(record)
	if err != nil {
		return fmt.Sprintf("%T without JSON: %v; set Text", record, err)
	}
	return string(b)
}

// Texts renders records. The texts are copies: the part under test may use the
// records' memory again.
func Texts[T any](records []T, text func(T) string) []string {
	texts := make([]string, len(records))
	for i, r := range records {
		texts[i] = strings.Clone(text(r))
	}
	return texts
}

// Difference describes the first difference between two lists of records. It is
// empty if they are equal.
func Difference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("%d records, missing from %s on, the last %d of %d", len(got), want[i], len(want)-i, len(want))
		case i >= len(want):
			return fmt.Sprintf("%d records too many, from %s on", len(got)-i, got[i])
		case got[i] != want[i]:
			return fmt.Sprintf("record %d is %s, want %s", i, got[i], want[i])
		}
	}
	return ""
}

// Short quotes a cursor for a message. It cuts a long one.
func Short(c source.Cursor) string {
	if len(c) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", c[:60], len(c))
	}
	return fmt.Sprintf("%q", c)
}
