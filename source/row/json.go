package row

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"unicode/utf8"
)

// AppendJSON appends the row to dst as one JSON object on one line, without a
// newline at the end. The columns keep their order; unchanged ones are left out.
// AppendJSON allocates only to grow dst. It returns an error only for the zero Row.
func (r Row) AppendJSON(dst []byte) ([]byte, error) {
	if r.batch == nil {
		return dst, errZero
	}
	if all := r.bytes(); len(all) >= large {
		dst = slices.Grow(dst, len(all)+countEscapes(all)+large)
	}
	open := len(dst)
	for i, key := range r.batch.columns.keys {
		b, f := r.cell(i)
		if f == absent {
			continue
		}
		dst = append(dst, key...)
		switch f {
		case null:
			dst = append(dst, "null"...)
		case literal:
			dst = append(dst, b...)
		default:
			dst = appendString(dst, b)
		}
	}
	if open == len(dst) {
		dst = append(dst, ',')
	}
	dst[open] = '{' // in place of the first key's comma
	return append(dst, '}'), nil
}

// MarshalJSON returns the row as a JSON object, see [Row.AppendJSON].
func (r Row) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil) }

// appendString appends s as a JSON string. If s is not valid UTF-8, it appends an
// object with the base64 of its bytes.
func appendString(dst, s []byte) []byte {
	open := len(dst)
	dst = append(dst, '"')
	ascii := true // so far
	for rest := s; ; {
		n := countPlain(rest, ascii)
		dst = append(dst, rest[:n]...)
		if rest = rest[n:]; len(rest) == 0 {
			return append(dst, '"')
		}
		if c := rest[0]; c < utf8.RuneSelf {
			dst = appendEscaped(dst, c)
			rest = rest[1:]
			continue
		}
		if !utf8.Valid(rest) {
			dst = append(dst[:open], `{"base64":"`...)
			return append(base64.StdEncoding.AppendEncode(dst, s), `"}`...)
		}
		ascii = false
	}
}

// large is the size of a row for which memory is allocated once, with as much again for what
// is between the values. Append would allocate a multiple of it in steps.
const large = 256 << 10

// countEscapes returns how many bytes the escapes of s in a JSON string add.
func countEscapes(s []byte) (n int) {
	for _, c := range s {
		switch {
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t':
			n++
		case c < ' ':
			n += 5
		}
	}
	return n
}

// countPlain returns how many bytes at the beginning of s need no escape in a JSON
// string. It stops at control characters, quotes and backslashes and, if ascii is
// set, at the first byte that is not ASCII. It tests eight bytes at a time, see
// "Determine if a word has a byte less than n" in "Bit Twiddling Hacks" by Sean
// Eron Anderson.
func countPlain(s []byte, ascii bool) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	foreign := uint64(0)
	if ascii {
		foreign = highs
	}
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		quote := w ^ ones*'"'
		slash := w ^ ones*'\\'
		if ((w-ones*' ')&^w|(quote-ones)&^quote|(slash-ones)&^slash)&highs|w&foreign != 0 {
			break
		}
	}
	for i < len(s) && s[i] >= ' ' && s[i] != '"' && s[i] != '\\' && (s[i] < utf8.RuneSelf || !ascii) {
		i++
	}
	return i
}

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// appendCompact appends valid JSON without white space between tokens.
func appendCompact(dst, s []byte) []byte {
	dst = slices.Grow(dst, len(s))
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			dst = append(dst, c)
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && c <= ' ':
			continue
		}
		dst = append(dst, s[i])
	}
	return dst
}
