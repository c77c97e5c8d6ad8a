package snapshot

import (
	"fmt"
	"hash/crc32"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// place is a position in a snapshot, decoded from a cursor. The zero value is before the first row.
//
// A cursor has the form snapshot1;CHECKSUM;HISTORY;SESSION;MOMENT;MOMENTS;TABLES;TABLE;ROWS;FORM;INNER.
type place struct {
	history string    // of the database, a short digest; "": not known
	session string    // the transaction that made it
	moment  time.Time // when the first transaction began
	moments int       // how many transactions the rows before it are of
	tables  string    // a short digest of the names of all tables, in order
	table   string    // the name of the table
	rows    int64     // how many rows of the table are before it
	form    byte      // see below
	inner   string    // the cursor of the keyed table, or the digest of the rows of the stream
}

// The forms of a place.
const (
	keyed    = 'k' // a table is read by its key
	streamed = 's' // a table is read by one statement
	start    = 'b' // before the first row of a table
	done     = 'd' // after the last row of the last table
)

const prefix = "snapshot1;"

func hasPrefix(c source.Cursor) bool { return strings.HasPrefix(string(c), prefix) }

func (p place) encode() (source.Cursor, error) {
	body := strings.Join([]string{p.history, p.session, strconv.FormatInt(p.moment.UnixMicro(), 36), strconv.Itoa(p.moments),
		p.tables, url.QueryEscape(p.table), strconv.FormatInt(p.rows, 10), string(p.form), p.inner}, ";")
	c := source.Cursor(fmt.Sprintf("%s%08x;%s", prefix, crc32.ChecksumIEEE([]byte(body)), body))
	if len(c) > source.MaxCursor {
		return "", permanent("%s: the cursor takes %d bytes, and can hold %d: choose a shorter key", p.table, len(c), source.MaxCursor)
	}
	return c, nil
}

func decode(c source.Cursor) (p place, err error) {
	const advice = "continue with the source that made it, or start over with an empty checkpoint"
	damaged := permanent("the cursor %q is damaged; %s", c.Short(), advice)
	switch {
	case c == "":
		return p, nil
	case c.Validate() != nil:
		return p, permanent("%w; %s", c.Validate(), advice)
	case !hasPrefix(c):
		return p, permanent("the cursor %q was not made by a snapshot; %s", c.Short(), advice)
	}
	sum, body, _ := strings.Cut(string(c[len(prefix):]), ";")
	parts := strings.SplitN(body, ";", 9)
	if fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body))) != sum || len(parts) != 9 || len(parts[7]) != 1 {
		return p, damaged
	}
	micros, bad := strconv.ParseInt(parts[2], 36, 64)
	moments, bad2 := strconv.Atoi(parts[3])
	name, bad3 := url.QueryUnescape(parts[5])
	rows, bad4 := strconv.ParseInt(parts[6], 10, 64)
	if bad != nil || bad2 != nil || bad3 != nil || bad4 != nil || rows < 0 || !strings.Contains("ksbd", parts[7]) {
		return p, damaged
	}
	return place{history: parts[0], session: parts[1], moment: time.UnixMicro(micros).UTC(), moments: moments,
		tables: parts[4], table: name, rows: rows, form: parts[7][0], inner: parts[8]}, nil
}

// digestOf returns a short digest of the names of the tables, in order. A place says which tables are read
// only if the list is the same.
func digestOf(tables []*table) string {
	h := crc32.NewIEEE()
	for _, t := range tables {
		fmt.Fprintf(h, "%d:%s", len(t.Name), t.Name)
	}
	return fmt.Sprintf("%08x", h.Sum32())
}

// permanent returns an error of this package that is not worth retrying.
func permanent(format string, args ...any) error {
	return retry.Permanent(fmt.Errorf("snapshot: "+format, args...))
}
