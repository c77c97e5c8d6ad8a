package pglog

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source"
)

// cursor is a position in the copy of the tables, or in the log. The zero value is before
// everything.
type cursor struct {
	origin string // the slot and the server it is on; see [slotState.origin]
	seen   filter

	// In the copy. The position is where the log begins that follows it.
	copying bool
	list    string        // fingerprint of the tables that are copied
	table   int           // the one that is being copied
	inner   source.Cursor // of that table

	// In the log.
	position
	last mark
}

// position says that all transactions whose commit record begins before at are delivered, and the
// first n changes of the one whose commit record begins at it.
type position struct {
	at lsn
	n  int
}

// mark names the last transaction with changes that was read. A log that continues the cursor must have it.
type mark struct {
	commit lsn
	xid    uint32
	micros uint64 // the time of the commit, as the log has it
}

// filter names the transactions that the copy contains. The zero value names none.
type filter struct {
	snapshot      // the first one of the copy
	until    lsn  // the commit record of every transaction that a snapshot of the copy sees is before it
	repeated bool // the copy was continued in a later snapshot, which saw more than the first
	timeline string
}

// snapshot is Postgres's: which transactions had ended when it was taken.
type snapshot struct {
	min, max uint64
	running  []uint64 // between min and max, ascending
}

// parseSnapshot parses the text of pg_current_snapshot().
func parseSnapshot(text string) (s snapshot, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, errors.New("the snapshot is not in its usual form")
	}
	var errs [2]error
	s.min, errs[0] = strconv.ParseUint(parts[0], 10, 64)
	s.max, errs[1] = strconv.ParseUint(parts[1], 10, 64)
	err = errors.Join(errs[:]...)
	for _, id := range strings.FieldsFunc(parts[2], func(r rune) bool { return r == ',' }) {
		n, failed := strconv.ParseUint(id, 10, 64)
		s.running, err = append(s.running, n), errors.Join(err, failed)
	}
	slices.Sort(s.running)
	return s, err
}

// sees reports whether the transaction had committed when the snapshot was taken, if it committed at
// all. The log has the lower half of its id; the id nearest to the snapshot is taken.
func (s snapshot) sees(xid uint32) bool {
	id := s.max&^0xffffffff | uint64(xid)
	switch d := int64(id - s.max); {
	case d > 1<<31:
		id -= 1 << 32
	case d < -(1 << 31):
		id += 1 << 32
	}
	_, running := slices.BinarySearch(s.running, id)
	return id < s.max && !running
}

// String writes a snapshot in the short form of a cursor.
func (s snapshot) String() string {
	b := fmt.Appendf(nil, "%x.%x", s.min, s.max-s.min)
	for _, id := range s.running {
		b = fmt.Appendf(b, ".%x", id-s.min)
	}
	return string(b)
}

const version = "pglog1"

// encode returns the cursor's text: printable ASCII, with semicolons between its fields.
func (c cursor) encode() source.Cursor {
	seen := "-"
	if c.seen.until != 0 {
		repeated := 0
		if c.seen.repeated {
			repeated = 1
		}
		seen = fmt.Sprintf("%s,%v,%d,%s", c.seen.snapshot, c.seen.until, repeated, c.seen.timeline)
	}
	if c.copying {
		return source.Cursor(fmt.Sprintf("%s;%s;%s;copy;%v;%s.%d;%s", version, c.origin, seen, c.at, c.list, c.table, c.inner))
	}
	return source.Cursor(fmt.Sprintf("%s;%s;%s;log;%v;%x.%x;%v;%d", version, c.origin, seen, c.last.commit, c.last.xid, c.last.micros, c.at, c.n))
}

var errCursor = errors.New("the cursor is not one of this kind of source")

func decodeCursor(text source.Cursor) (c cursor, err error) {
	f := strings.SplitN(string(text), ";", 7)
	if len(f) != 7 || f[0] != version || text.Validate() != nil {
		return c, errCursor
	}
	c.origin = f[1]
	var errs []error
	check := func(err error) { errs = append(errs, err) }
	if f[2] != "-" {
		parts := strings.Split(f[2], ",")
		if len(parts) != 4 {
			return c, errCursor
		}
		c.seen.snapshot, err = decodeSnapshot(parts[0])
		check(err)
		c.seen.until, err = parseLSN(parts[1])
		check(err)
		c.seen.repeated, c.seen.timeline = parts[2] == "1", parts[3]
	}
	if f[3] == "copy" {
		list, table, _ := strings.Cut(f[5], ".")
		c.copying, c.list, c.inner = true, list, source.Cursor(f[6])
		c.at, err = parseLSN(f[4])
		check(err)
		c.table, err = strconv.Atoi(table)
		check(err)
	} else {
		at, n, _ := strings.Cut(f[6], ";")
		xid, micros, _ := strings.Cut(f[5], ".")
		c.last.commit, err = parseLSN(f[4])
		check(err)
		id, err := strconv.ParseUint(xid, 16, 32)
		check(err)
		c.last.xid = uint32(id)
		c.last.micros, err = strconv.ParseUint(micros, 16, 64)
		check(err)
		c.at, err = parseLSN(at)
		check(err)
		c.n, err = strconv.Atoi(n)
		check(err)
	}
	if errors.Join(errs...) != nil || c.encode() != text {
		return cursor{}, errCursor
	}
	return c, nil
}

func decodeSnapshot(text string) (s snapshot, err error) {
	for i, part := range strings.Split(text, ".") {
		n, failed := strconv.ParseUint(part, 16, 64)
		if failed != nil {
			return s, errCursor
		}
		switch i {
		case 0:
			s.min = n
		case 1:
			s.max = s.min + n
		default:
			s.running = append(s.running, s.min+n)
		}
	}
	return s, nil
}
