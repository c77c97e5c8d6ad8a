package sqlsource

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// A cursor has the form VERSION;FINGERPRINT;HISTORY;VALUE;VALUE;CHECKSUM, with the values of
// the key; one before the first row has none. HISTORY is empty if it is not known. In version 3,
// that of a cursor which is refused, the reason follows HISTORY, and releases that do not know
// refusals refuse it for its version. For a change of the form see
// poller/integration/testdata/compat/README.md.
const (
	version        = "2"
	refusedVersion = "3"
)

// fingerprint distinguishes queries, so that none continues from another's cursor.
func fingerprint(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}

func encode(fingerprint string, origin origin, key []dialect.Value) (source.Cursor, error) {
	v := version
	if origin.refused != "" {
		v = refusedVersion
	}
	b := []byte(v + ";" + fingerprint + ";")
	b = append(escape(b, origin.String()), ';')
	if origin.refused != "" {
		b = append(escape(b, origin.refused), ';')
	}
	for _, v := range key {
		b = append(b, v.Tag)
		b = escape(b, v.Text)
		b = append(b, ';')
	}
	b = fmt.Appendf(b, "%08x", crc32.ChecksumIEEE(b))
	switch over, n := len(b)-source.MaxCursor, len(origin.anchors); { // the key matters more than anchors and the reason
	case over <= 0:
		return source.Cursor(b), nil
	case n > 0:
		origin.anchors = origin.anchors[:n-1]
	case len(origin.refused) > over:
		origin.refused = origin.refused[:len(origin.refused)-over]
	default:
		return "", permanent("a key takes %d bytes in a cursor, which holds %d; choose a shorter key", len(b), source.MaxCursor)
	}
	return encode(fingerprint, origin, key)
}

// otherQuery is the error of a cursor that was made by another query.
type otherQuery struct{ error }

func (o otherQuery) Unwrap() error { return o.error }

// decode returns the key of a cursor, nil if it stands before the first row, and
// the history it was made in. An empty print accepts the cursor of any query. If the error is an
// otherQuery, key and history are returned with it.
func decode(c source.Cursor, print string, columns int) ([]dialect.Value, origin, error) {
	const advice = "rewind to a cursor of this query, or to one that At returns, or start over with an empty checkpoint"
	damaged := func(why string) ([]dialect.Value, origin, error) {
		return nil, origin{}, permanent("the cursor %q is damaged (%s); %s", c.Short(), why, advice)
	}
	if err := c.Validate(); err != nil {
		return nil, origin{}, permanent("%w; %s", err, advice)
	}
	v, _, _ := strings.Cut(string(c), ";")
	_, notNumber := strconv.ParseUint(v, 10, 16)
	switch {
	case v == version || v == refusedVersion:
	case notNumber == nil:
		return nil, origin{}, permanent("the cursor %q is of version %s, and this program knows %s and %s: run the release that wrote it, or a later one; or %s", c.Short(), v, version, refusedVersion, advice)
	default:
		return nil, origin{}, permanent("the cursor %q was not made by this package; %s", c.Short(), advice)
	}
	end := len(c) - 8
	if end < 1 || c[end-1] != ';' || fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(c[:end]))) != string(c[end:]) {
		return damaged("its checksum does not match")
	}
	parts := strings.Split(string(c[:end-1]), ";")
	if len(parts) < 3 {
		return damaged("it is too short")
	}
	made, err := parseOrigin(parts[2])
	if err == nil && v == refusedVersion {
		if len(parts) == 3 || parts[3] == "" {
			return damaged("it does not say why it is refused")
		}
		made.refused, err = unescape(parts[3])
		parts = slices.Delete(parts, 3, 4)
	}
	if err != nil {
		return damaged(err.Error())
	}
	var foreign error
	if print != "" && parts[1] != print {
		foreign = otherQuery{permanent("the cursor %q is of another query: its fingerprint is %s, this query's is %s, so the table, the select, the key or the condition differs; adopt it if its key means the same row, or %s",
			c.Short(), parts[1], print, advice)}
	}
	parts = parts[3:]
	cut := func(a anchor) bool { return len(a.key) != columns }
	if len(parts) != 0 && len(parts) != columns || slices.ContainsFunc(made.anchors, cut) {
		if foreign != nil {
			return nil, origin{}, foreign
		}
		return damaged(fmt.Sprintf("it has keys of another number of values than %d", columns))
	}
	var key []dialect.Value
	for _, p := range parts {
		v, err := parseValue(p)
		if err != nil {
			return damaged(err.Error())
		}
		key = append(key, v)
	}
	return key, made, foreign
}

func parseValue(s string) (dialect.Value, error) {
	if s == "" {
		return dialect.Value{}, errors.New("a value is missing")
	}
	text, err := unescape(s[1:])
	v := dialect.Value{Tag: s[0], Text: text}
	return v, cmp.Or(err, checkValue(v))
}

func checkValue(v dialect.Value) (err error) {
	switch v.Tag {
	case dialect.Int:
		_, err = v.Integer()
	case dialect.Float:
		_, err = strconv.ParseFloat(v.Text, 64)
	case dialect.Bytes:
		_, err = hex.DecodeString(v.Text)
	case dialect.Time:
		_, err = time.Parse(time.RFC3339Nano, v.Text)
	case dialect.Text, dialect.Given:
	default:
		err = fmt.Errorf("a value has the unknown type %q", v.Tag)
	}
	return err
}

// escapeParts replaces what separates the parts of a history, and unescapeParts sets it back.
var (
	escapeParts   = strings.NewReplacer("~", "~0", "/", "~1", "@", "~2", ",", "~3", ":", "~4")
	unescapeParts = strings.NewReplacer("~0", "~", "~1", "/", "~2", "@", "~3", ",", "~4", ":")
)

// escape writes bytes that are not printable ASCII, and the codec's own marks, as %XX.
func escape(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == ';' || c == '%' {
			dst = fmt.Appendf(dst, "%%%02X", c)
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// unescape reads what escape wrote.
func unescape(s string) (string, error) {
	text, err := url.PathUnescape(s)
	if err != nil || string(escape(nil, text)) != s {
		return "", errors.New("a text is not in its usual form")
	}
	return text, nil
}
