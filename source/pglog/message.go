package pglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// lsn is a position in the write-ahead log, in bytes.
type lsn uint64

func (l lsn) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

func parseLSN(s string) (lsn, error) {
	high, low, ok := strings.Cut(s, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err != nil || err2 != nil {
		return 0, errors.New("a position in the log is not in its usual form")
	}
	return lsn(h<<32 | l), nil
}

// Kinds of messages of pgoutput, protocol version 1.
const (
	msgBegin    = 'B'
	msgCommit   = 'C'
	msgRelation = 'R'
	msgInsert   = 'I'
	msgUpdate   = 'U'
	msgDelete   = 'D'
	msgTruncate = 'T'
	msgType     = 'Y'
	msgOrigin   = 'O'
	msgLogical  = 'M'
)

// Kinds of cells in a tuple. A value that is unchanged, and stored outside of its row, is not in the log.
const (
	cellNull      = 'n'
	cellUnchanged = 'u'
	cellText      = 't'
)

var errShort = errors.New("a message of the log ends too early")

// decoder takes the parts off a message. After an error it returns zero values.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.err, d.b = errShort, nil
		return nil
	}
	part := d.b[:n:n]
	d.b = d.b[n:]
	return part
}

func (d *decoder) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) text() string {
	for i, c := range d.b {
		if c == 0 {
			s := string(d.b[:i])
			d.b = d.b[i+1:]
			return s
		}
	}
	d.err, d.b = errShort, nil
	return ""
}

// cell is a value in a tuple, which shares the memory of its message.
type cell struct {
	kind byte
	text []byte
}

// tuple appends the cells of a tuple, which must be n.
func (d *decoder) tuple(cells []cell, n int) []cell {
	if int(d.u16()) != n && d.err == nil {
		d.err = errors.New("a row of the log does not have the columns of its table")
	}
	for range n {
		if d.err != nil {
			return nil
		}
		c := cell{kind: d.u8()}
		switch c.kind {
		case cellText:
			c.text = d.take(int(d.u32()))
		case cellNull, cellUnchanged:
		default:
			if d.err == nil {
				d.err = fmt.Errorf("a row of the log has a value of the unknown kind %q", c.kind)
			}
		}
		cells = append(cells, c)
	}
	return cells
}

// begin is the message that opens a transaction.
type begin struct {
	commit lsn    // where its commit record begins
	micros uint64 // the time of the commit, in microseconds since 2000
	xid    uint32
}

func (d *decoder) begin() begin { return begin{commit: lsn(d.u64()), micros: d.u64(), xid: d.u32()} }

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// at returns the time of the commit.
func (b begin) at() time.Time {
	micros := int64(b.micros)
	return epoch.Add(time.Duration(micros/1e6) * time.Second).Add(time.Duration(micros%1e6) * time.Microsecond)
}

func (b begin) mark() mark { return mark{b.commit, b.xid, b.micros} }

// commitEnd returns where a transaction's commit record ends.
func (d *decoder) commitEnd() lsn {
	d.u8()
	d.u64()
	return lsn(d.u64())
}

// truncated returns the ids of the tables that a TRUNCATE emptied.
func (d *decoder) truncated() []uint32 {
	n := int(d.u32())
	d.u8() // CASCADE, RESTART IDENTITY
	if n > len(d.b)/4 {
		d.err = errShort
		return nil
	}
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = d.u32()
	}
	return ids
}

// layout is a table as a message describes it.
type layout struct {
	id           uint32
	schema, name string
	identity     byte // relreplident: d, n, f, i
	columns      []column
}

type column struct {
	name string
	key  bool // part of the replica identity
	typ  uint32
	mod  int32
}

func (d *decoder) layout() layout {
	l := layout{id: d.u32(), schema: d.text(), name: d.text(), identity: d.u8()}
	if l.schema == "" { // pgoutput leaves out the name of this schema
		l.schema = "pg_catalog"
	}
	for n := int(d.u16()); n > 0 && d.err == nil; n-- {
		c := column{key: d.u8()&1 != 0, name: d.text()}
		c.typ, c.mod = d.u32(), int32(d.u32())
		l.columns = append(l.columns, c)
	}
	return l
}
