package diffsource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// place is a position in a segment of the state. The zero place is before everything.
type place struct {
	segment uint64
	offset  int64
}

// cursor is a position in a pass.
type cursor struct {
	lineage  uint64        // made at random by the first pass
	pass     uint64        // from 1; 0 before the first pass
	began    int64         // when the pass began, in Unix milliseconds
	last     int64         // when the last complete pass before it began, 0 without one
	state    place         // the end of what is known of the table's present state
	entries  uint64        // how many entries that are
	base     place         // the end of the state of the pass before
	taken    uint64        // how many entries of it were compared
	complete bool          // the pass has ended
	replica  bool          // some of its rows were read on a standby
	key      sqlsource.Key // of the last row that was compared, "" before the first one
}

const version = "d1"

// The flags of a cursor.
const (
	flagComplete = 1 << iota
	flagReplica
)

func identity(t *sqlsource.Table) string {
	h := sha256.New()
	for _, part := range append([]string{t.Name}, t.Key...) {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}

func (c cursor) encode(identity string) source.Cursor {
	if c.pass == 0 {
		return ""
	}
	flags := 0
	if c.complete {
		flags |= flagComplete
	}
	if c.replica {
		flags |= flagReplica
	}
	text := fmt.Sprintf("%s;%s;%x;%d;%d;%d;%x;%d;%d;%x;%d;%d;%d;%s", version, identity, c.lineage, c.pass, c.began, c.last,
		c.state.segment, c.state.offset, c.entries, c.base.segment, c.base.offset, c.taken, flags, string(c.key))
	return source.Cursor(fmt.Sprintf("%s;%08x", text, crc32.ChecksumIEEE([]byte(text))))
}

const startOver = "start over with an empty checkpoint: the first pass delivers each row as an upsert, and no deletes"

func decode(text source.Cursor, identity string) (c cursor, err error) {
	if text == "" {
		return cursor{}, nil
	}
	refuse := func(why string) (cursor, error) {
		return cursor{}, retry.Permanent(fmt.Errorf("diffsource: the cursor %q %s; %s", text.Short(), why, startOver))
	}
	if err := text.Validate(); err != nil {
		return refuse("is not valid: " + err.Error())
	}
	if !strings.HasPrefix(string(text), version+";") {
		return refuse("was not made by this release of this package")
	}
	end := len(text) - 9
	if end < 0 || fmt.Sprintf(";%08x", crc32.ChecksumIEEE([]byte(text[:end]))) != string(text[end:]) {
		return refuse("is damaged")
	}
	parts := strings.SplitN(string(text[:end]), ";", 14)
	if len(parts) != 14 {
		return refuse("is damaged")
	}
	if parts[1] != identity {
		return refuse("is of another table or key")
	}
	number := func(i, base int) uint64 {
		n, _ := strconv.ParseUint(parts[i], base, 64) // an error shows in the comparison below
		return n
	}
	c = cursor{
		lineage: number(2, 16), pass: number(3, 10), began: int64(number(4, 10)), last: int64(number(5, 10)),
		state: place{number(6, 16), int64(number(7, 10))}, entries: number(8, 10),
		base: place{number(9, 16), int64(number(10, 10))}, taken: number(11, 10),
		complete: number(12, 10)&flagComplete != 0, replica: number(12, 10)&flagReplica != 0, key: sqlsource.Key(parts[13]),
	}
	if c.pass == 0 || c.encode(identity) != text {
		return refuse("is damaged")
	}
	return c, nil
}

// asOf is the time before which every committed change is at or before the cursor. It is zero if that is not known: on
// a standby, which lags, and if the clock was set back since.
func (c cursor) asOf() time.Time {
	ms := c.last
	if c.complete {
		ms = c.began
	}
	t := time.UnixMilli(ms)
	if ms == 0 || c.complete && c.replica || t.After(time.Now()) {
		return time.Time{}
	}
	return t
}

// position describes the cursor for people.
func (c cursor) position() string {
	if c.pass == 0 {
		return ""
	}
	where := "before the first row"
	switch {
	case c.complete:
		where = "complete"
	case c.key != "":
		where = "at " + c.key.String()
	}
	return fmt.Sprintf("pass %d of %s, %s", c.pass, time.UnixMilli(c.began).UTC().Format(time.RFC3339), where)
}
