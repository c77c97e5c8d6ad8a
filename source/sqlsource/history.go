package sqlsource

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrHistory is wrapped by the error of Fetch when the cursor was made in
// another history of the database than the one that is there now: on another
// server, before the table was made anew, or on one that has gone back in time
// since. Rows that are there may then have been read already, or be below the
// cursor and never be read. The error is permanent and says what happened; go
// on by a rewind to what At returns, or by Adopt.
var ErrHistory = errors.New("the cursor is of another history")

// history is what tells apart the states that a database can be in.
type history struct {
	parts   []historyPart
	mark    uint64        // grows with every commit, and never falls while nothing is lost
	drawn   uint64        // greater than the mark where that may fall though nothing is lost, as when the last rows are deleted
	flushed uint64        // the mark up to which nothing can be lost by a crash
	boot    string        // tells when the server started last; what is not flushed may be lost by a start
	flushes time.Duration // a commit is on disk so long after it was made at the latest; 0: not known
	behind  bool          // the server is a standby, whose mark may be behind that of another
}

// historyPart is one thing that identifies the history. An empty value is not
// known, and not compared.
type historyPart struct{ name, value, other string }

// past is the history in a cursor: values by position, and the mark.
type past struct {
	values []string
	mark   uint64
}

// draw adds what draws the keys, see [ceiling.Limit].
func (h *history) draw(sequence string) {
	if sequence != "" {
		h.parts = append(h.parts, historyPart{"sequence", sequence, "it was restarted, and keys below the cursor are drawn again; or it was only altered, which loses nothing"})
	}
}

func (h history) past() past {
	p := past{mark: h.mark}
	for _, part := range h.parts {
		p.values = append(p.values, part.value)
	}
	return p
}

// String is the form in cursors.
func (p past) String() string {
	if strings.Join(p.values, "") == "" && p.mark == 0 {
		return ""
	}
	return strings.Join(p.values, "/") + "@" + strconv.FormatUint(p.mark, 10)
}

// lateCount ends the history in old cursors, which counted the late rows that
// had been delivered. It is read and dropped.
var lateCount = regexp.MustCompile(`\+[1-9][0-9]{0,19}$`)

func parsePast(s string) (past, error) {
	if s == "" {
		return past{}, nil
	}
	counted := lateCount.FindString(s)
	s = strings.TrimSuffix(s, counted)
	values, mark, ok := strings.Cut(s, "@")
	n, err := strconv.ParseUint(mark, 10, 64)
	p := past{values: strings.Split(values, "/"), mark: n}
	if counted != "" && s == "@0" { // an unknown history is written only in front of a count
		return past{}, nil
	}
	if !ok || err != nil || p.String() != s {
		return past{}, errors.New("its history is not in its usual form")
	}
	return p, nil
}

// follows returns an error if the database is not in the history that p is of.
func (h history) follows(p past) error {
	for i, part := range h.parts {
		if i < len(p.values) && p.values[i] != "" && part.value != "" && p.values[i] != part.value {
			return fmt.Errorf("the cursor was made on the %s %s, this is the %s %s: %s", part.name, p.values[i], part.name, part.value, part.other)
		}
	}
	if at := max(h.mark, h.drawn); at < p.mark && len(h.parts) > 0 {
		if h.behind {
			return errBehind
		}
		return fmt.Errorf("the database has gone back in time: the cursor was made at %d, it is at %d; a backup or a snapshot was restored, the table was emptied by TRUNCATE or made anew, or rows that were committed are lost", p.mark, at)
	}
	return nil
}

// What to do about a cursor of another history. If keys below it are drawn
// again, to go on behind it is no way out.
const (
	adoptAdvice  = "if the rows up to the cursor's key are nevertheless those that were read, adopt the cursor (Adopt, or dbtofile -adopt); otherwise " + rewindAdvice
	rewindAdvice = "rewind to where rows are to be read again (At, or dbtofile -rewind)"
)

// errBehind passes when the standby has caught up.
var errBehind = errors.New("the standby has not replayed yet what the cursor has read")

// notFollowed makes the error of a Fetch.
func (q *query) notFollowed(err error, advice string) error {
	if errors.Is(err, errBehind) {
		return fmt.Errorf("sqlsource: %s: %w", q.label, err)
	}
	return permanent("%s: %w: %w: %s", q.label, ErrHistory, err, advice)
}

// joined returns the past that comes after an older one: with its values where
// they are not known, as a standby does not know the timeline, and the greater
// mark.
func (p past) joined(older past) past {
	for i, v := range older.values {
		if i == len(p.values) {
			p.values = append(p.values, "")
		}
		p.values[i] = cmp.Or(p.values[i], v)
	}
	p.mark = max(p.mark, older.mark)
	return p
}
