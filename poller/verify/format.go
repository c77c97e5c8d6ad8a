package verify

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
)

// maxRecord is the length of the longest record that is read. A longer one is damaged.
const maxRecord = 256 << 20

// format reads the records of one segment.
type format struct {
	in      *bufio.Reader
	csv     bool
	columns []string // of the segment
	buf     []byte
	at      int64 // how many bytes were read
}

// encoderFor returns the encoder for segments with a name such as this.
func encoderFor(path string) (filesink.Encoder[row.Row], error) {
	switch extension := filepath.Ext(path); extension {
	case ".jsonl":
		return filesink.JSONLines[row.Row](), nil
	case ".csv":
		return filesink.CSV[row.Row](), nil
	default:
		return nil, fmt.Errorf("%s: only segments in .jsonl and .csv can be compared", filepath.Base(path))
	}
}

// newFormat begins to read a segment. It consumes a header.
func newFormat(in io.Reader, isCSV bool) (*format, error) {
	f := &format{in: bufio.NewReaderSize(in, 1<<16), csv: isCSV}
	if !isCSV {
		return f, nil
	}
	header, err := f.next()
	if err != nil {
		return f, err
	}
	var ok bool
	if f.columns, ok = csvFields(header); !ok {
		err = errors.New("its header is damaged: put it right, or move the file away")
	}
	return f, err
}

// next returns the next record, with its line end. It is valid until the following
// call. It returns io.EOF at the end.
func (f *format) next() ([]byte, error) {
	f.buf = f.buf[:0]
	for {
		part, err := f.in.ReadSlice('\n')
		f.buf = append(f.buf, part...)
		f.at += int64(len(part))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if len(f.buf) < maxRecord {
				continue
			}
		case errors.Is(err, io.EOF) && len(f.buf) > 0:
		case err != nil:
			return nil, err
		case f.csv && bytes.Count(f.buf, []byte{'"'})%2 == 1 && len(f.buf) < maxRecord:
			continue // a line feed in quotes
		}
		return f.buf, nil
	}
}

// key returns the texts of some columns of a record, false if it is damaged.
func (f *format) key(record []byte, columns []string) ([]string, bool) {
	key, found := make([]string, len(columns)), 0
	if f.csv {
		fields, ok := csvFields(record)
		ok = ok && len(fields) == len(f.columns)
		for i, c := range columns {
			if at := slices.Index(f.columns, c); ok && at >= 0 {
				key[i] = fields[at]
				found++
			}
		}
		return key, ok && found == len(columns)
	}
	ok := jsonFields(record, func(name, value []byte) {
		for i, c := range columns {
			if isName(name, c) {
				key[i] = unquote(value)
				found++
			}
		}
	})
	return key, ok && found == len(columns)
}

// csvFields returns the fields of a record that row.Row has written.
func csvFields(record []byte) (fields []string, ok bool) {
	rest, ok := strings.CutSuffix(string(record), "\r\n")
	for ok {
		var field string
		if quoted, is := strings.CutPrefix(rest, `"`); is {
			end := 0
			for {
				n := strings.IndexByte(quoted[end:], '"')
				if n < 0 {
					return nil, false
				}
				if end += n; !strings.HasPrefix(quoted[end:], `""`) {
					break
				}
				end += 2
			}
			field, rest = strings.ReplaceAll(quoted[:end], `""`, `"`), quoted[end+1:]
		} else {
			end := strings.IndexByte(rest, ',')
			if end < 0 {
				end = len(rest)
			}
			field, rest = rest[:end], rest[end:]
			ok = !strings.ContainsAny(field, "\"\r\n")
		}
		fields = append(fields, field)
		if rest == "" {
			return fields, ok
		}
		if rest[0] != ',' {
			return nil, false
		}
		rest = rest[1:]
	}
	return nil, false
}

// jsonFields calls each for the names and values of a JSON object in one line. It
// returns false if the record is damaged.
func jsonFields(record []byte, each func(name, value []byte)) bool {
	rest, ok := bytes.CutPrefix(record, []byte{'{'})
	if !ok || !bytes.HasSuffix(rest, []byte("}\n")) {
		return false
	}
	for rest = rest[:len(rest)-1]; ; rest = rest[1:] {
		name, after := jsonValue(rest)
		if name == nil || name[0] != '"' || len(after) == 0 || after[0] != ':' {
			return false
		}
		value, after := jsonValue(after[1:])
		if value == nil || len(after) == 0 {
			return false
		}
		each(name, value)
		switch {
		case string(after) == "}":
			return true
		case after[0] != ',':
			return false
		}
		rest = after
	}
}

// jsonValue returns the JSON value at the beginning of b and what follows it. The value is nil if
// b does not begin with one.
func jsonValue(b []byte) (value, rest []byte) {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
			continue
		case c == '"':
			quoted = !quoted
		case quoted:
			continue
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if depth < 0 || depth == 0 && !quoted && (b[i] == ',' || b[i] == ':') {
			if i == 0 {
				return nil, nil
			}
			return b[:i], b[i:]
		}
	}
	return nil, nil
}

// isName reports whether a JSON string is a column's name.
func isName(quoted []byte, name string) bool {
	if n := len(quoted); n == len(name)+2 && bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:n-1]) == name
	}
	return len(quoted) > len(name)+2 && unquote(quoted) == name
}

// unquote returns the text of a JSON string, and any other value as it is.
func unquote(value []byte) string {
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		if bytes.IndexByte(value, '\\') < 0 {
			return string(value[1 : n-1])
		}
		var text string
		if json.Unmarshal(value, &text) == nil {
			return text
		}
	}
	return string(value)
}
