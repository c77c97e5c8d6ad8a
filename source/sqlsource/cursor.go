package sqlsource

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// A cursor has the form VERSION;FINGERPRINT;HISTORY;VALUE;VALUE;CHECKSUM, with the values of
// the key; one before the first row has none. HISTORY is empty if it is not known, and version
// 1 has no such part. For a change of the form see poller/integration/testdata/compat/README.md.
const (
	version    = "2"
	oldVersion = "1"
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
	b := []byte(version + ";" + fingerprint + ";")
	b = append(escape(b, origin.String()), ';')
	for _, v := range key {
		b = append(b, v.Tag)
		b = escape(b, v.Text)
		b = append(b, ';')
	}
	b = fmt.Appendf(b, "%08x", crc32.ChecksumIEEE(b))
	if len(b) > source.MaxCursor {
		return "", permanent("a key takes %d bytes in a cursor, which holds %d; choose a shorter key", len(b), source.MaxCursor)
	}
	return source.Cursor(b), nil
}

// decode returns the key of a cursor, nil if it stands before the first row, and
// the history it was made in. An empty print accepts the cursor of any query.
func decode(c source.Cursor, print string, columns int) ([]dialect.Value, origin, error) {
	const advice = "rewind to a cursor of this query, or to one that At returns, or start over with an empty checkpoint"
	damaged := func(why string) ([]dialect.Value, origin, error) {
		return nil, origin{}, permanent("the cursor %.200q is damaged (%s); %s", string(c), why, advice)
	}
	if err := c.Validate(); err != nil {
		return nil, origin{}, permanent("%w; %s", err, advice)
	}
	v, _, _ := strings.Cut(string(c), ";")
	_, notNumber := strconv.ParseUint(v, 10, 16)
	switch {
	case v == version || v == oldVersion:
	case notNumber == nil:
		return nil, origin{}, permanent("the cursor %.200q is of version %s, and this program knows %s and %s: run the release that wrote it, or a later one; or %s", string(c), v, oldVersion, version, advice)
	default:
		return nil, origin{}, permanent("the cursor %.200q was not made by this package; %s", string(c), advice)
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
		return nil, origin{}, permanent("the cursor %.200q is of another query: its fingerprint is %s, this query's is %s, so the table, the select, the key or the condition differs; adopt it if its key means the same row, or %s",
			string(c), parts[1], print, advice)
	}
	made, err := parseOrigin(parts[2])
	if err != nil {
		return damaged(err.Error())
	}
	parts = parts[3:]
	if len(parts) != 0 && len(parts) != columns {
		return damaged(fmt.Sprintf("it has %d values for a key of %d columns", len(parts), columns))
	}
	var key []dialect.Value
	for _, p := range parts {
		v, err := parseValue(p)
		if err != nil {
			return damaged(err.Error())
		}
		key = append(key, v)
	}
	return key, made, nil
}

func parseValue(s string) (dialect.Value, error) {
	if s == "" {
		return dialect.Value{}, errors.New("a value is missing")
	}
	text, err := unescape(s[1:])
	if err != nil {
		return dialect.Value{}, err
	}
	v := dialect.Value{Tag: s[0], Text: text}
	switch v.Tag {
	case dialect.Int:
		_, err = v.Integer()
	case dialect.Float:
		_, err = strconv.ParseFloat(text, 64)
	case dialect.Bytes:
		_, err = hex.DecodeString(text)
	case dialect.Time:
		_, err = time.Parse(time.RFC3339Nano, text)
	case dialect.Text, dialect.Given:
	default:
		err = fmt.Errorf("a value has the unknown type %q", v.Tag)
	}
	if err == nil && string(escape(nil, text)) != s[1:] {
		err = errors.New("a value is not in its usual form")
	}
	return v, err
}

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

func unescape(s string) (string, error) {
	text, err := url.PathUnescape(s)
	if err != nil {
		return "", errors.New("an escape is not two hexadecimal digits")
	}
	return text, nil
}

// ErrHistory is wrapped by the error of Fetch when the cursor was made on another server,
// before the table was recreated, or on a database that has gone back in time since. Rows
// may then have been read already, or be below the cursor and never be read. The error is
// permanent and says what happened. Continue with a rewind to what At returns, or with Adopt.
var ErrHistory = errors.New("the cursor is of another history")

// origin is the history that a cursor was made in. The zero value is not known.
type origin struct {
	values []string // of the parts, by position; "": not known
	mark   uint64
}

// history reads what identifies the database's history. The sequence is what draws the keys,
// see [ceiling.Limit].
func (q *query) history(ctx context.Context, db ceiling.Queryer, sequence string) (dialect.History, error) {
	h, err := q.sql.History(ctx, db, q.table)
	if err != nil {
		return h, q.wrap(fmt.Errorf("reading what identifies the database's history: %w", err), nil)
	}
	if sequence != "" {
		h.Parts = append(h.Parts, dialect.HistoryPart{Name: "sequence", Value: sequence,
			Changed: "it was restarted, and keys below the cursor are drawn again; or it was only altered, which loses nothing"})
	}
	return h, nil
}

// originOf returns the origin of a batch that follows an older one, whose values stay where
// they are not known now, as a standby does not know the timeline.
func originOf(h dialect.History, older origin) origin {
	o := origin{values: slices.Clone(older.values), mark: max(h.Mark, older.mark)}
	for i, part := range h.Parts {
		if i == len(o.values) {
			o.values = append(o.values, "")
		}
		o.values[i] = cmp.Or(part.Value, o.values[i])
	}
	return o
}

func (o origin) String() string {
	if strings.Join(o.values, "") == "" && o.mark == 0 {
		return ""
	}
	return strings.Join(o.values, "/") + "@" + strconv.FormatUint(o.mark, 10)
}

// lateCount ends the history in old cursors, see DESIGN.md. It is read and dropped.
var lateCount = regexp.MustCompile(`\+[1-9][0-9]{0,19}$`)

// parseOrigin reads what String wrote and encode escaped.
func parseOrigin(s string) (origin, error) {
	s, err := unescape(s)
	if err != nil || s == "" {
		return origin{}, err
	}
	counted := lateCount.FindString(s)
	s = strings.TrimSuffix(s, counted)
	values, mark, ok := strings.Cut(s, "@")
	n, err := strconv.ParseUint(mark, 10, 64)
	o := origin{values: strings.Split(values, "/"), mark: n}
	if counted != "" && s == "@0" { // an unknown history was written only in front of a count
		return origin{}, nil
	}
	if !ok || err != nil || o.String() != s {
		return origin{}, errors.New("its history is not in its usual form")
	}
	return o, nil
}

// follows returns an error if h does not continue the history that the cursor was made in.
func (o origin) follows(h dialect.History) error {
	for i, part := range h.Parts {
		if i < len(o.values) && o.values[i] != "" && part.Value != "" && o.values[i] != part.Value {
			return fmt.Errorf("the cursor was made on the %s %s, this is the %s %s: %s", part.Name, o.values[i], part.Name, part.Value, part.Changed)
		}
	}
	if at := max(h.Mark, h.Drawn); at < o.mark && len(h.Parts) > 0 {
		if h.Standby {
			return errBehind
		}
		return fmt.Errorf("the database has gone back in time: the cursor was made at %d, it is at %d; a backup or a snapshot was restored, the table was emptied by TRUNCATE or recreated, or rows that were committed are lost", o.mark, at)
	}
	return nil
}

// What to do about a cursor of another history. Where keys below the cursor are drawn
// again, only a rewind loses no rows.
const (
	adoptAdvice  = "if the rows up to the cursor's key are nevertheless those that were read, adopt the cursor (Adopt, or dbtofile -adopt); otherwise " + rewindAdvice
	rewindAdvice = "rewind to where rows should be read again (At, or dbtofile -rewind)"
)

// errBehind passes when the standby has caught up.
var errBehind = errors.New("the standby has not yet replayed what the cursor has read")

func (q *query) notFollowed(err error, advice string) error {
	if errors.Is(err, errBehind) {
		return q.wrap(err, nil)
	}
	return permanent("%s: %w: %w: %s", q.label, ErrHistory, err, advice)
}
