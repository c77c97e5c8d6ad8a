package row

import (
	"encoding/base64"
	"io"
	"unicode/utf8"
)

// Size returns how many bytes the texts of all columns have together.
func (r Row) Size() int {
	if r.batch == nil {
		return 0
	}
	return len(r.bytes())
}

// WriteJSON writes to w what [Row.AppendJSON] appends. It takes memory for a part of
// the row only, so use it for large rows: the JSON of a control character is six bytes.
func (r Row) WriteJSON(w io.Writer) error {
	if r.batch == nil {
		return errZero
	}
	p := parts{w: w}
	p.writeRow(r)
	return p.end()
}

// writeRow adds a row as JSON.
func (p *parts) writeRow(r Row) {
	open := byte('{')
	for i, key := range r.batch.columns.keys {
		b, f := r.cell(i)
		if f == absent {
			continue
		}
		p.write([]byte{open})
		p.write([]byte(key[1:])) // without its comma
		p.writeValue(b, f)
		open = ','
	}
	if open == '{' {
		p.write([]byte{open})
	}
	p.write([]byte{'}'})
}

// WriteCSV writes to w what [Row.AppendCSV] appends. It takes memory for a part of the
// row only.
func (r Row) WriteCSV(w io.Writer) error {
	if r.batch == nil {
		return errZero
	}
	p := parts{w: w}
	for i := range r.Len() {
		if i > 0 {
			p.write([]byte{','})
		}
		b, f := r.cell(i)
		switch f {
		case null:
		case absent:
			return errAbsent
		default:
			p.writeField(b)
		}
	}
	p.write([]byte("\r\n"))
	return p.end()
}

// partBytes is how much of a value is encoded at once.
const partBytes = 48 << 10

// parts writes a row in parts. After an error it writes nothing.
type parts struct {
	w   io.Writer
	buf []byte
	err error
}

// write adds text that is written unchanged.
func (p *parts) write(text []byte) {
	if len(p.buf)+len(text) > partBytes {
		p.flush()
	}
	if len(text) > partBytes {
		p.send(text)
		return
	}
	p.buf = append(p.buf, text...)
}

func (p *parts) flush() {
	p.send(p.buf)
	p.buf = p.buf[:0]
}

func (p *parts) send(text []byte) {
	if p.err == nil && len(text) > 0 {
		_, p.err = p.w.Write(text)
	}
}

func (p *parts) end() error {
	p.flush()
	return p.err
}

// writeValue adds a cell as JSON.
func (p *parts) writeValue(s []byte, f form) {
	switch {
	case f == null:
		p.write([]byte("null"))
	case f == literal:
		p.write(s)
	case utf8.Valid(s):
		p.write([]byte{'"'})
		for ; len(s) > 0; s = s[min(len(s), partBytes):] {
			p.escape(s[:min(len(s), partBytes)])
		}
		p.write([]byte{'"'})
	default:
		p.write([]byte(`{"base64":"`))
		for ; len(s) > 0; s = s[min(len(s), partBytes):] {
			p.buf = base64.StdEncoding.AppendEncode(p.buf, s[:min(len(s), partBytes)]) // a multiple of 3
			p.flush()
		}
		p.write([]byte(`"}`))
	}
}

// escape adds a part of a JSON string that is valid UTF-8.
func (p *parts) escape(s []byte) {
	for len(s) > 0 {
		n := countPlain(s, false)
		p.buf = append(p.buf, s[:n]...)
		if s = s[n:]; len(s) > 0 {
			p.buf = appendEscaped(p.buf, s[0])
			s = s[1:]
		}
	}
	p.flush()
}

// writeField adds a field of CSV.
func (p *parts) writeField(s []byte) {
	if !needsQuotes(s) {
		p.write(s)
		return
	}
	p.write([]byte{'"'})
	for ; len(s) > 0; s = s[min(len(s), partBytes):] {
		p.buf = appendDoubled(p.buf, s[:min(len(s), partBytes)])
		p.flush()
	}
	p.write([]byte{'"'})
}
