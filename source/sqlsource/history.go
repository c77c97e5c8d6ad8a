package sqlsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// ErrHistory is wrapped by the error of Fetch when the cursor was made on another server,
// before the table was recreated, or on a database that has gone back in time since. Rows
// may then have been read already, or be below the cursor and never be read. The error is
// permanent and says what happened. Before it, Fetch returns an empty batch whose cursor
// contains the refusal, so that it stays whatever happens to the database later. Continue
// with a rewind to what At returns, or with Adopt.
var ErrHistory = errors.New("the cursor is of another history")

// origin is the history that a cursor was made in. The zero value is not known.
type origin struct {
	values  []string // of the parts, by position; "": not known
	mark    uint64
	table   string   // fingerprint of the table and its key
	marks   []string // hashes of what changes in ordinary life too, by position
	columns layout   // of the anchors
	anchors []anchor // the newest first
	refused string   // why the cursor is refused
}

func (o origin) known() bool { return strings.Join(o.values, "") != "" || o.mark != 0 || o.table != "" }

// String returns the form that cursors hold. Its last value begins with a star, and holds the evidence.
func (o origin) String() string {
	if !o.known() {
		return ""
	}
	var values []string
	for _, v := range o.values {
		values = append(values, escapeParts.Replace(v))
	}
	if o.table != "" {
		b := fmt.Appendf(nil, "*%s,%s,%s", o.table, strings.Join(o.marks, "."), numbersText(o.columns))
		values = append(values, string(appendAnchors(b, o.anchors)))
	}
	return strings.Join(values, "/") + "@" + strconv.FormatUint(o.mark, 10)
}

// parseOrigin reads what String wrote and encode escaped.
func parseOrigin(s string) (origin, error) {
	s, err := unescape(s)
	if err != nil || s == "" {
		return origin{}, err
	}
	values, mark, ok := strings.Cut(s, "@")
	at, err := strconv.ParseUint(mark, 10, 64)
	o := origin{values: strings.Split(values, "/"), mark: at}
	n := len(o.values) - 1
	last := o.values[n]
	old := strings.HasPrefix(last, "!") || strings.HasPrefix(last, "+") // its anchors had digests of another form, and are dropped
	if old || strings.HasPrefix(last, "*") {
		for old && n > 0 && strings.HasPrefix(o.values[n-1], "*") { // an older release has kept the evidence of this one
			n--
		}
		o.values = o.values[:n]
		err = cmp.Or(err, o.parseEvidence(strings.Split(last[1:], ","), old))
	}
	for i, v := range o.values {
		o.values[i] = unescapeParts.Replace(v)
	}
	if !ok || err != nil || !old && o.String() != s {
		return origin{}, errors.New("its history is not in its usual form")
	}
	return o, nil
}

func (o *origin) parseEvidence(fields []string, old bool) (err error) {
	if len(fields) < 3 || !old && len(fields) > 3+levels {
		return errors.New("its history has too few or too many fields")
	}
	o.table = fields[0]
	if fields[1] != "" {
		o.marks = strings.Split(fields[1], ".")
	}
	if old {
		return nil
	}
	o.columns, err = parseNumbers(fields[2])
	for _, f := range fields[3:] {
		a, failed := parseAnchor(f)
		err = cmp.Or(err, failed)
		o.anchors = append(o.anchors, a)
	}
	return err
}

// history reads what identifies the database's history. The sequence is what draws the keys,
// see [ceiling.Limit]. It is the last of the parts, empty if it is not known.
func (s *state) history(ctx context.Context, db ceiling.Queryer, sequence string) (dialect.History, error) {
	q := s.query
	h, err := q.sql.History(ctx, db, s.base, s.marks.Drawn)
	if err != nil {
		return h, q.wrap(fmt.Errorf("reading what identifies the database's history: %w", err), nil)
	}
	if s.origin.Table != nil && !slices.Equal(s.base, q.table) { // below a view a cursor does not continue in another table
		sequence = cmp.Or(sequence, strings.Join(s.base, "."))
	}
	h.Parts = append(h.Parts, dialect.HistoryPart{Name: "sequence", Value: sequence,
		Changed: "it was restarted, and keys below the cursor are drawn again; or it was only altered, which loses nothing"})
	return h, nil
}

// originOf returns the origin of a batch that follows an older one, whose values stay where
// they are not known now, as a standby does not know the timeline.
func originOf(h dialect.History, older origin, table string) origin {
	var values []string
	for i, part := range h.Parts {
		values = append(values, older.value(i, part))
	}
	return origin{table: table, values: merge(values, older.values), mark: max(h.Mark, older.mark)}
}

// value returns the value of a part, "" if only an older one than the cursor's is known.
func (o origin) value(i int, part dialect.HistoryPart) string {
	if part.AtLeast && i < len(o.values) && cmp.Or(len(part.Value)-len(o.values[i]), strings.Compare(part.Value, o.values[i])) < 0 {
		return ""
	}
	return part.Value
}

// merge returns the values that are known now, and otherwise the older ones.
func merge(now, older []string) []string {
	out := make([]string, max(len(now), len(older)))
	copy(out, older)
	for i, v := range now {
		out[i] = cmp.Or(v, out[i])
	}
	return out
}

// follows returns an error if h is not certain to continue the history that the cursor was made
// in. Only the delivered rows can prove that it does nevertheless.
func (o origin) follows(h dialect.History) error {
	for i, part := range h.Parts {
		if v := o.value(i, part); i < len(o.values) && o.values[i] != "" && v != "" && o.values[i] != v {
			return fmt.Errorf("the cursor was made on the %s %s, this is the %s %s: %s", part.Name, o.values[i], part.Name, v, part.Changed)
		}
	}
	if at := max(h.Mark, h.Drawn); at < o.mark && len(h.Parts) > 1 { // the sequence alone says nothing
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
	adoptAdvice    = "if the rows up to the cursor's key are nevertheless those that were read, " + orRewind
	updatedAdvice  = "if all rows were updated, and the server was restarted or the table rebuilt, " + orRewind
	orRewind       = "adopt the cursor (Adopt, or dbtofile -adopt); otherwise " + rewindAdvice
	refilledAdvice = "nothing, if the rows were updated; if the table was emptied, restored or filled again under old keys, " + rewindAdvice + "; package verify, or dbtofile -verify, finds the rows that differ"
	undrawnAdvice  = "nothing, if the keys of new rows follow the cursor's; otherwise set the sequence that draws them (setval), and read the rows below the cursor with a rewind"
	rewindAdvice   = "rewind to where rows should be read again (At, or dbtofile -rewind)"
)

// errBehind passes when the standby has caught up.
var errBehind = errors.New("the standby has not yet replayed what the cursor has read")

// refusal is why a cursor is refused, and what to do. The source keeps it in the cursor.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }
func (r *refusal) Unwrap() error { return ErrHistory }

// maxReason is the length of a refusal in a cursor.
const maxReason = 900

func refuse(err error, advice string) error {
	reason := fmt.Sprintf("%v: %v: %s", ErrHistory, err, advice)
	return &refusal{reason[:min(len(reason), maxReason)]}
}
