package ceiling

import (
	"context"
	"fmt"
	"time"
)

// SingleWriter is for databases that let one transaction write at a time, so
// that rows commit in the order of their keys: SQLite with a key that is INTEGER
// PRIMARY KEY AUTOINCREMENT. Chosen by name it also takes another key of SQLite
// at your word: that each write gives it a value greater than all before.
type SingleWriter struct{}

func (SingleWriter) String() string { return "single-writer" }

// Open implements [Ceiling].
func (c SingleWriter) Open(_ context.Context, _ Queryer, t Table) (Guard, error) {
	return singleWriter{Report{Strategy: c.String(), Guarantee: fmt.Sprintf("every row of %s", t.Label)}}, nil
}

type singleWriter struct{ report Report }

func (g singleWriter) Report() Report { return g.report }

// Raise implements [Guard].
func (singleWriter) Raise(context.Context, Queryer, []string) (Limit, error) {
	return Limit{AsOf: time.Now()}, nil
}
