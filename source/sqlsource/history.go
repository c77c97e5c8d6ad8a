package sqlsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// ErrHistory is wrapped by the error of Fetch when the cursor was made on another server,
// before the table was recreated, or on a database that has gone back in time since. Rows
// may then have been read already, or be below the cursor and never be read. The error is
// permanent and says what happened. Continue with a rewind to what At returns, or with Adopt.
var ErrHistory = errors.New("the cursor is of another history")

// origin is the history that a cursor was made in. The zero value is not known.
type origin struct {
	values []string // of the parts, by position; "": not known
	mark   uint64
}

// history reads what identifies the database's history. The sequence is what draws the keys,
// see [ceiling.Limit].
func (q *query) history(ctx context.Context, db ceiling.Queryer, sequence string) (dialect.History, error) {
	h, err := q.sql.History(ctx, db, q.table)
	if err != nil {
		return h, q.wrap(fmt.Errorf("reading what identifies the database's history: %w", err), nil)
	}
	if sequence != "" {
		h.Parts = append(h.Parts, dialect.HistoryPart{Name: "sequence", Value: sequence,
			Changed: "it was restarted, and keys below the cursor are drawn again; or it was only altered, which loses nothing"})
	}
	return h, nil
}

// originOf returns the origin of a batch that follows an older one, whose values stay where
// they are not known now, as a standby does not know the timeline.
func originOf(h dialect.History, older origin) origin {
	o := origin{values: slices.Clone(older.values), mark: max(h.Mark, older.mark)}
	for i, part := range h.Parts {
		if i == len(o.values) {
			o.values = append(o.values, "")
		}
		o.values[i] = cmp.Or(part.Value, o.values[i])
	}
	return o
}

// String is the form in cursors.
func (o origin) String() string {
	if strings.Join(o.values, "") == "" && o.mark == 0 {
		return ""
	}
	return strings.Join(o.values, "/") + "@" + strconv.FormatUint(o.mark, 10)
}

// lateCount ends the history in old cursors, see DESIGN.md. It is read and dropped.
var lateCount = regexp.MustCompile(`\+[1-9][0-9]{0,19}$`)

// parseOrigin reads what String wrote and encode escaped.
func parseOrigin(s string) (origin, error) {
	s, err := unescape(s)
	if err != nil || s == "" {
		return origin{}, err
	}
	counted := lateCount.FindString(s)
	s = strings.TrimSuffix(s, counted)
	values, mark, ok := strings.Cut(s, "@")
	n, err := strconv.ParseUint(mark, 10, 64)
	o := origin{values: strings.Split(values, "/"), mark: n}
	if counted != "" && s == "@0" { // an unknown history was written only in front of a count
		return origin{}, nil
	}
	if !ok || err != nil || o.String() != s {
		return origin{}, errors.New("its history is not in its usual form")
	}
	return o, nil
}

// follows returns an error if h does not continue the history that the cursor was made in.
func (o origin) follows(h dialect.History) error {
	for i, part := range h.Parts {
		if i < len(o.values) && o.values[i] != "" && part.Value != "" && o.values[i] != part.Value {
			return fmt.Errorf("the cursor was made on the %s %s, this is the %s %s: %s", part.Name, o.values[i], part.Name, part.Value, part.Changed)
		}
	}
	if at := max(h.Mark, h.Drawn); at < o.mark && len(h.Parts) > 0 {
		if h.Standby {
			return errBehind
		}
		return fmt.Errorf("the database has gone back in time: the cursor was made at %d, it is at %d; a backup or a snapshot was restored, the table was emptied by TRUNCATE or recreated, or rows that were committed are lost", o.mark, at)
	}
	return nil
}

// What to do about a cursor of another history. Where keys below the cursor are drawn
// again, only a rewind loses no rows.
const (
	adoptAdvice  = "if the rows up to the cursor's key are nevertheless those that were read, adopt the cursor (Adopt, or dbtofile -adopt); otherwise " + rewindAdvice
	rewindAdvice = "rewind to where rows should be read again (At, or dbtofile -rewind)"
)

// errBehind passes when the standby has caught up.
var errBehind = errors.New("the standby has not yet replayed what the cursor has read")

// notFollowed makes the error of a Fetch.
func (q *query) notFollowed(err error, advice string) error {
	if errors.Is(err, errBehind) {
		return fmt.Errorf("sqlsource: %s: %w", q.label, err)
	}
	return permanent("%s: %w: %w: %s", q.label, ErrHistory, err, advice)
}
