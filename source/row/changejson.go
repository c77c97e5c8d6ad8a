package row

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// AppendJSON appends the change to dst as one JSON object on one line, without a
// newline at the end:
//
//	{"op":"update","table":"public.orders","key":{"id":7},"row":{"id":7,"state":"paid"},"old":{"id":7},
//	 "unchanged":["body"],"at":"2026-01-31T23:59:59.5Z","position":"0/16B3748","transaction":"771"}
//
// The members have this order. One that is not known is left out; a delete has no
// "row". The rows are written by [Row.AppendJSON], and "unchanged" names the columns
// that "row" leaves out because their values did not change and are not known. Later
// versions may add members. AppendJSON returns an error for an Op that is not valid.
func (c Change) AppendJSON(dst []byte) ([]byte, error) {
	dst, err := c.appendHead(dst)
	if err != nil {
		return dst, err
	}
	for _, m := range c.rows() {
		if m.row.batch != nil {
			dst = append(dst, m.name...)
			if dst, err = m.row.AppendJSON(dst); err != nil {
				return dst, err
			}
		}
	}
	return append(c.appendTail(dst), '}'), nil
}

// MarshalJSON returns the change as a JSON object, see [Change.AppendJSON].
func (c Change) MarshalJSON() ([]byte, error) { return c.AppendJSON(nil) }

// WriteJSON writes to w what [Change.AppendJSON] appends. It takes memory for a part of
// the change only.
func (c Change) WriteJSON(w io.Writer) error {
	head, err := c.appendHead(nil)
	if err != nil {
		return err
	}
	p := parts{w: w}
	p.write(head)
	for _, m := range c.rows() {
		if m.row.batch != nil {
			p.write([]byte(m.name))
			p.writeRow(m.row)
		}
	}
	p.write(append(c.appendTail(nil), '}'))
	return p.end()
}

// member is a row of a change, and what is written in front of it.
type member struct {
	name string
	row  Row
}

func (c Change) rows() [3]member {
	return [...]member{{`,"key":`, c.Key}, {`,"row":`, c.Row}, {`,"old":`, c.Old}}
}

func (c Change) check() error {
	if c.Op < Insert || c.Op > Truncate {
		return fmt.Errorf("row: a change of %q has the operation %v, which is not valid", c.Table, c.Op)
	}
	return nil
}

// appendHead appends what is in front of the rows.
func (c Change) appendHead(dst []byte) ([]byte, error) {
	if err := c.check(); err != nil {
		return dst, err
	}
	dst = append(append(append(dst, `{"op":"`...), c.Op.String()...), '"')
	return appendMember(dst, `,"table":`, c.Table), nil
}

// appendTail appends what follows the rows, without the brace.
func (c Change) appendTail(dst []byte) []byte {
	if names := c.unchanged(nil); len(names) > 0 {
		dst = append(append(dst, `,"unchanged":`...), names...)
	}
	if !c.At.IsZero() {
		dst = append(AppendTime(append(dst, `,"at":"`...), TimestampTZ, c.At), '"')
	}
	dst = appendMember(dst, `,"position":`, c.Position)
	return appendMember(dst, `,"transaction":`, c.Transaction)
}

func (c Change) time() string {
	if c.At.IsZero() {
		return ""
	}
	return string(AppendTime(nil, TimestampTZ, c.At))
}

func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(append(dst, name...), []byte(value))
}

// unchanged appends the names of the unchanged columns as a JSON array, and nothing
// without such columns.
func (c Change) unchanged(dst []byte) []byte {
	sep := byte('[')
	for i := range c.Row.Len() {
		if c.Row.IsUnchanged(i) {
			dst = appendString(append(dst, sep), []byte(c.Row.Columns().Name(i)))
			sep = ','
		}
	}
	if sep == ',' {
		dst = append(dst, ']')
	}
	return dst
}

// UnmarshalJSON sets c to the change that [Change.AppendJSON] has written. The kinds of
// the columns are not in JSON, so all are [Auto], and the unchanged columns are the last
// ones. The change is written as the same JSON again. Members that it does not know are
// ignored.
func (c *Change) UnmarshalJSON(object []byte) error {
	var m struct {
		Op, Table, At, Position, Transaction string
		Key, Row, Old                        *Row
		Unchanged                            []string
	}
	if err := json.Unmarshal(object, &m); err != nil {
		return errors.New("row: a change is one JSON object with op, table, key, row and old") // without the text of err, which may contain values
	}
	*c = Change{Table: m.Table, Position: m.Position, Transaction: m.Transaction}
	c.Op = Op(max(slices.Index(opNames[:], m.Op), 0))
	if err := c.check(); err != nil {
		return err
	}
	if m.At != "" {
		at, err := time.Parse(time.RFC3339Nano, m.At)
		if err != nil {
			return errors.New(`row: the member "at" of a change is not a time by RFC 3339`)
		}
		c.At = at
	}
	for _, to := range []struct{ to, from *Row }{{&c.Key, m.Key}, {&c.Row, m.Row}, {&c.Old, m.Old}} {
		if to.from != nil {
			*to.to = *to.from
		}
	}
	if len(m.Unchanged) > 0 && c.Row.batch == nil {
		return errors.New("row: a change with unchanged columns has no row")
	}
	c.Row = c.Row.with(m.Unchanged)
	return nil
}

// with returns the row, which is the only one of its batch, with more columns, which
// are unchanged.
func (r Row) with(unchanged []string) Row {
	if len(unchanged) == 0 {
		return r
	}
	names, kinds := append(slices.Clone(r.names()), unchanged...), slices.Clone(r.batch.columns.kinds)
	b := &batch{columns: NewColumns(names, kinds), arena: r.batch.arena, cells: slices.Clone(r.batch.cells)}
	for range unchanged {
		b.cells = append(b.cells, uint32(len(b.arena))<<formBits|uint32(absent))
	}
	return Row{b, 0}
}

// changeHeader are the columns of changes in CSV.
const changeHeader = "op,table,key,row,old,unchanged,at,position,transaction\r\n"

// AppendCSVHeader appends the names of the columns to dst as one CSV record, which are
// the same for the changes of all tables:
// op,table,key,row,old,unchanged,at,position,transaction.
func (c Change) AppendCSVHeader(dst []byte) []byte { return append(dst, changeHeader...) }

// AppendCSV appends the change to dst as one CSV record by RFC 4180, terminated by
// CR LF. Key, row and old are JSON objects, unchanged is a JSON array, all as
// [Change.AppendJSON] writes them. What is not known is empty.
func (c Change) AppendCSV(dst []byte) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	err := c.WriteCSV(buf)
	return buf.Bytes(), err
}

// WriteCSV writes to w what [Change.AppendCSV] appends. It takes memory for a part of
// the change only.
func (c Change) WriteCSV(w io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	p := parts{w: w}
	p.write([]byte(c.Op.String()))
	p.field(c.Table)
	for _, m := range c.rows() {
		p.write([]byte{','})
		if m.row.batch == nil {
			continue
		}
		p.write([]byte{'"'})
		p.flush()
		if err := m.row.WriteJSON(doubler{&p}); err != nil {
			return err
		}
		p.write([]byte{'"'})
	}
	for _, text := range []string{string(c.unchanged(nil)), c.time(), c.Position, c.Transaction} {
		p.field(text)
	}
	p.write([]byte("\r\n"))
	return p.end()
}

// field adds a comma and a field of CSV, nothing for an empty text.
func (p *parts) field(text string) {
	p.write([]byte{','})
	if text != "" {
		p.writeField([]byte(text))
	}
}

// doubler writes text with each quote doubled.
type doubler struct{ p *parts }

func (d doubler) Write(text []byte) (int, error) {
	d.p.write(appendDoubled(nil, text))
	return len(text), d.p.err
}
