package sqlsource

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// A cursor reads VERSION;FINGERPRINT;HISTORY;VALUE;VALUE;CHECKSUM: what
// identifies the database's history, empty if that is not known, and the values
// of the key, in order, or none if it stands before the first row. Version 1 had
// no history. The version changes with any change of the form, and only as
// poller/integration/testdata/compat/README.md has it: a release that is rolled
// back must find what it can read.
const (
	version    = "2"
	oldVersion = "1"
)

// value is one value of a key: a tag, which is the type the driver gave, and
// the canonical text.
type value struct {
	tag  byte
	text string
}

const (
	tagInt   = 'i' // an int64 or uint64
	tagFloat = 'f'
	tagText  = 's' // also numerics, and times as the database writes them
	tagBytes = 'b' // in hex
	tagTime  = 't' // of At: RFC 3339
	tagGiven = 'g' // of At: a string, which may stand for any type
)

// fingerprint tells queries apart, so that none goes on from another's cursor.
func fingerprint(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}

func encode(fingerprint string, past past, key []value) (source.Cursor, error) {
	b := []byte(version + ";" + fingerprint + ";")
	b = append(escape(b, past.String()), ';')
	for _, v := range key {
		b = append(b, v.tag)
		b = escape(b, v.text)
		b = append(b, ';')
	}
	b = fmt.Appendf(b, "%08x", crc32.ChecksumIEEE(b))
	if len(b) > source.MaxCursor {
		return "", permanent("a key takes %d bytes in a cursor, which holds %d; choose a shorter key", len(b), source.MaxCursor)
	}
	return source.Cursor(b), nil
}

// decode returns the key of a cursor, nil if it stands before the first row, and
// the history it is of. An empty print stands for any query's.
func decode(c source.Cursor, print string, columns int) ([]value, past, error) {
	const advice = "rewind to a cursor of this query, or to one that At returns, or start anew with an empty checkpoint"
	damaged := func(why string) ([]value, past, error) {
		return nil, past{}, permanent("the cursor %.200q is damaged (%s); %s", string(c), why, advice)
	}
	if err := c.Validate(); err != nil {
		return nil, past{}, permanent("%w; %s", err, advice)
	}
	v, _, _ := strings.Cut(string(c), ";")
	_, notNumber := strconv.ParseUint(v, 10, 16)
	switch known := v == version || v == oldVersion; {
	case !known && notNumber == nil:
		return nil, past{}, permanent("the cursor %.200q is of version %s, and this program knows %s and %s: run the release that wrote it, or a later one; or %s", string(c), v, oldVersion, version, advice)
	case !known:
		return nil, past{}, permanent("the cursor %.200q is none of this package; %s", string(c), advice)
	}
	end := len(c) - 8
	if end < 1 || c[end-1] != ';' || fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(c[:end]))) != string(c[end:]) {
		return damaged("its checksum does not match")
	}
	parts := strings.Split(string(c[:end-1]), ";")
	if v == oldVersion && len(parts) >= 2 {
		parts = slices.Insert(parts, 2, "")
	}
	if len(parts) < 3 {
		return damaged("it is too short")
	}
	if print != "" && parts[1] != print {
		return nil, past{}, permanent("the cursor %.200q is of another query: its fingerprint is %s, this query's is %s, so the table, the select, the key or the condition is not the same; adopt it if its key means the same row, or %s",
			string(c), parts[1], print, advice)
	}
	text, err := unescape(parts[2])
	if err != nil {
		return damaged(err.Error())
	}
	made, err := parsePast(text)
	if err != nil {
		return damaged(err.Error())
	}
	parts = parts[3:]
	if len(parts) != 0 && len(parts) != columns {
		return damaged(fmt.Sprintf("it has %d values for a key of %d columns", len(parts), columns))
	}
	var key []value
	for _, p := range parts {
		v, err := parseValue(p)
		if err != nil {
			return damaged(err.Error())
		}
		key = append(key, v)
	}
	return key, made, nil
}

func parseValue(s string) (value, error) {
	if s == "" {
		return value{}, errors.New("a value is missing")
	}
	text, err := unescape(s[1:])
	if err != nil {
		return value{}, err
	}
	v := value{s[0], text}
	switch v.tag {
	case tagInt:
		_, err = v.integer()
	case tagFloat:
		_, err = strconv.ParseFloat(text, 64)
	case tagBytes:
		_, err = hex.DecodeString(text)
	case tagTime:
		_, err = time.Parse(time.RFC3339Nano, text)
	case tagText, tagGiven:
	default:
		err = fmt.Errorf("a value has the unknown type %q", v.tag)
	}
	if err == nil && string(escape(nil, text)) != s[1:] {
		err = errors.New("a value is not in its usual form")
	}
	return v, err
}

// integer returns an int64, or a uint64 if it is too large for that.
func (v value) integer() (any, error) {
	if n, err := strconv.ParseInt(v.text, 10, 64); err == nil {
		return n, nil
	}
	n, err := strconv.ParseUint(v.text, 10, 64)
	return n, err
}

// String is for messages.
func (v value) String() string {
	if v.tag == tagInt || v.tag == tagFloat {
		return v.text
	}
	if v.tag == tagBytes {
		return "0x" + v.text
	}
	return strconv.QuoteToASCII(v.text)
}

// word is String without quotes where they are not needed.
func (v value) word() string {
	quoted := v.String()
	if quoted == `"`+v.text+`"` && v.text != "" && !strings.Contains(v.text, ",") {
		return v.text
	}
	return quoted
}

const upperHex = "0123456789ABCDEF"

// escape writes all but printable ASCII, and the codec's own marks, as %XX.
func escape(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == ';' || c == '%' {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errors.New("an escape is cut off")
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", errors.New("an escape is no number")
		}
		b = append(b, byte(n))
		i += 2
	}
	return string(b), nil
}

// keyValue returns the value that a user means by x, for At.
func keyValue(x any) (value, error) {
	switch x := x.(type) {
	case nil:
		return value{}, errors.New("is nil; a key is never NULL")
	case string:
		return value{tagGiven, x}, nil
	case []byte:
		return value{tagBytes, hex.EncodeToString(x)}, nil
	case time.Time:
		if x.Year() < 1 || x.Year() > 9999 {
			return value{}, errors.New("is a time that RFC 3339 cannot write; give it as the database does, in a string")
		}
		return value{tagTime, x.Format(time.RFC3339Nano)}, nil
	}
	v, err := number(x)
	if s, ok := x.(fmt.Stringer); ok && err != nil { // uuid.UUID, *big.Int, decimal types
		return value{tagGiven, s.String()}, nil
	}
	return v, err
}
