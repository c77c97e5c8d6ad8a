package xminsource

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// pack appends a key in the form in which the server returns those of the table: the length of each value, a colon and the
// value. Two keys with one packed form are the same.
func pack(dst, key []byte) ([]byte, error) {
	for len(key) > 0 {
		part, rest, ok := bytes.Cut(key, []byte{';'})
		if !ok || len(part) == 0 {
			return dst, fmt.Errorf("%w: a key has another form", errDamaged)
		}
		tag, text := part[0], part[1:]
		if tag != dialect.Int && tag != dialect.Bytes && bytes.IndexByte(text, '%') >= 0 {
			plain, err := url.PathUnescape(string(text))
			if err != nil {
				return dst, fmt.Errorf("%w: a key has another form", errDamaged)
			}
			text = []byte(plain)
		}
		if tag == dialect.Float {
			x, err := strconv.ParseFloat(string(text), 64)
			if err != nil {
				return dst, fmt.Errorf("%w: a key has another form", errDamaged)
			}
			bits := math.Float64bits(x)
			if x != x {
				bits = 0x7ff8 << 48 // as the server has it
			}
			text = hex.AppendEncode(nil, binary.BigEndian.AppendUint64(nil, bits))
		}
		dst = append(strconv.AppendInt(dst, int64(len(text)), 10), ':')
		dst = append(dst, text...)
		key = rest
	}
	return dst, nil
}

// errPacked says that the keys which the server has returned cannot be told apart.
var errPacked = errors.New("the database returned keys in another form than it was asked for")

// cutPacked cuts the first packed key off a text. Its values are added to into.
func cutPacked(text []byte, columns int, into [][]byte) (packed, rest []byte, values [][]byte, err error) {
	rest = text
	for range columns {
		size, _, ok := bytes.Cut(rest[:min(len(rest), 12)], []byte{':'})
		n, err := strconv.Atoi(string(size))
		if err != nil || !ok || n < 0 || n > len(rest)-len(size)-1 {
			return nil, nil, nil, errPacked
		}
		into = append(into, rest[len(size)+1:len(size)+1+n])
		rest = rest[len(size)+1+n:]
	}
	return text[:len(text)-len(rest)], rest, into, nil
}

// keyRows returns the keys of a list as rows.
func keyRows(names []string, kinds []int, keys []sqlsource.Key) ([]row.Row, error) {
	of := make([]row.Kind, len(kinds))
	for i, kind := range kinds {
		of[i] = row.Kind(kind)
	}
	b := row.NewBuilder(row.NewColumns(names, of), len(keys))
	for _, key := range keys {
		values, err := key.Values()
		if err != nil || len(values) != len(names) {
			return nil, retry.Permanent(fmt.Errorf("%w: a key has another form", errDamaged))
		}
		for i, cell := range b.Dest() {
			if text, ok := values[i].(string); ok && of[i] == row.Auto { // a boolean: it has the only type of this kind
				values[i] = text == "true"
			}
			if err := cell.(sql.Scanner).Scan(values[i]); err != nil {
				return nil, retry.Permanent(err)
			}
		}
		b.Add()
	}
	return b.Rows(), nil
}

// valueText is a value of a key as an argument of a statement, and whether that is binary, in hex.
func valueText(v any) (text string, binary bool) {
	switch v := v.(type) {
	case []byte:
		return hex.EncodeToString(v), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), false
	}
	return fmt.Sprint(v), false
}
