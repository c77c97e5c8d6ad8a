package xminsource

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// errBehind passes when the standby has caught up.
var errBehind = errors.New("the standby has not yet replayed what the cursor has read")

// refusal is why a cursor does not continue. The source keeps it in the cursor.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }
func (r *refusal) Unwrap() error { return sqlsource.ErrHistory }

// maxReason is the length of a refusal in a cursor.
const maxReason = 900

const (
	adoptAdvice  = "if no committed transaction was lost, as by a planned switchover, adopt the cursor (Adopt); otherwise " + rereadAdvice
	rereadAdvice = "start over with an empty checkpoint, which reads all rows again"
)

// startOver adds to the advice to start over what Deletes needs.
func (s *Source) startOver(advice string) string {
	if s.Deletes == nil {
		return advice
	}
	return advice + "; " + copyAdvice
}

func refuse(advice, format string, args ...any) error {
	reason := fmt.Sprintf("%v: %s; %s", sqlsource.ErrHistory, fmt.Sprintf(format, args...), advice)
	return &refusal{reason[:min(len(reason), maxReason)]}
}

// timeline is the index of the timeline among the parts of a history.
const timeline = 1

// follows returns an error if now may not continue the history that the cursor was made
// in. The ids of lost transactions are given out again, below the cursor.
func (h history) follows(now dialect.History) error {
	for i, part := range now.Parts {
		if i >= len(h.values) || h.values[i] == "" || part.Value == "" || part.Value == h.values[i] {
			continue
		}
		if part.AtLeast && cmp.Or(len(part.Value)-len(h.values[i]), strings.Compare(part.Value, h.values[i])) < 0 {
			continue
		}
		if i == timeline && h.boot == now.Boot && now.Boot != "" {
			continue // this server was promoted, and has delivered as a standby, so it had replayed that
		}
		advice := rereadAdvice
		if i == timeline {
			advice = adoptAdvice
		}
		return refuse(advice, "the cursor was made on the %s %s, this is the %s %s: %s", part.Name, h.values[i], part.Name, part.Value, part.Changed)
	}
	switch {
	case now.Mark >= h.mark || len(now.Parts) == 0:
		return nil
	case now.Standby:
		return errBehind
	}
	return refuse(rereadAdvice, "the database has gone back in time: the cursor was made at %d, it is at %d", h.mark, now.Mark)
}

// historyOf returns the history for a new cursor. Values that are not known now stay as they were.
func historyOf(now dialect.History, mark uint64, older history) history {
	h := history{mark: max(mark, older.mark), boot: now.Boot}
	for i, part := range now.Parts {
		v := part.Value
		if i < len(older.values) {
			if part.AtLeast && cmp.Or(len(v)-len(older.values[i]), strings.Compare(v, older.values[i])) < 0 {
				v = ""
			}
			v = cmp.Or(v, older.values[i])
		}
		h.values = append(h.values, v)
	}
	return h
}

// same reports whether both are of the same server and start.
func (h history) same(o history) bool { return h.boot == o.boot && slices.Equal(h.values, o.values) }
