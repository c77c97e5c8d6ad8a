package sqlcheckpoint

import (
	"fmt"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
)

// Entry is a cursor that was stored.
type Entry struct {
	Cursor source.Cursor
	Time   time.Time // when it was stored; zero if saved_at was edited and is not a time
	Writer string    // token of the handle that stored it, or "rewind-" and a token; empty for the first row
}

// row is a pipeline's row of the table.
type row struct {
	Cursor  source.Cursor
	Writer  string
	Seq     int64
	SavedAt string
	History string
}

const timeFormat = "2006-01-02T15:04:05.000Z07:00"

func (r row) state() durable.State {
	t, _ := time.Parse(time.RFC3339, r.SavedAt)
	return durable.State{Cursor: r.Cursor, Writer: r.Writer, Seq: r.Seq, Time: t}
}

// next returns the row that follows r and keeps n cursors in all.
func (r row) next(s durable.State, n int) row {
	earlier := append([]string{r.line()}, lines(r.History)...)
	return row{
		Cursor:  s.Cursor,
		Writer:  s.Writer,
		Seq:     s.Seq,
		SavedAt: s.Time.Format(timeFormat),
		History: strings.Join(earlier[:min(len(earlier), n-1)], "\n"),
	}
}

// line returns r as a line of the history. Blanks separate its fields, so line
// replaces those that a person has put into the writer.
func (r row) line() string {
	word := func(s string) string {
		if s = strings.Join(strings.Fields(s), "_"); s == "" {
			return "-"
		}
		return s
	}
	return word(r.SavedAt) + " " + word(r.Writer) + " " + string(r.Cursor)
}

func (r row) entries(n int) ([]Entry, error) {
	all := []Entry{{r.Cursor, r.state().Time, r.Writer}}
	for i, line := range lines(r.History) {
		words := strings.SplitN(line, " ", 3)
		if len(words) != 3 {
			return nil, fmt.Errorf("line %d of the history is not \"saved_at writer cur\": correct it, or set history to ''", i+1)
		}
		earlier := row{SavedAt: words[0], Writer: words[1], Cursor: source.Cursor(words[2])}
		if earlier.Writer == "-" {
			earlier.Writer = ""
		}
		all = append(all, Entry{earlier.Cursor, earlier.state().Time, earlier.Writer})
	}
	return all[:min(len(all), n)], nil
}

func lines(history string) []string {
	if history == "" {
		return nil
	}
	return strings.Split(history, "\n")
}
