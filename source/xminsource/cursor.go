package xminsource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// version begins each cursor. A cursor has the form
// VERSION;FINGERPRINT;FROM;BELOW;HISTORY;REFUSED;INNER;CHECKSUM. With Deletes it begins with versionKnown, and KNOWN comes
// before INNER.
const (
	version      = "xmin1"
	versionKnown = "xmin2"
)

// position is a decoded cursor. The zero position stands before the first row.
type position struct {
	from    uint64        // X0: versions of transactions below it were delivered; 0: none were
	below   uint64        // X1: the pass delivers versions of transactions below it; 0: no pass has begun
	inner   source.Cursor // the table's cursor in the pass, without a history; "": before the first key
	history history
	refused string // why the cursor is refused
	known   known
}

// inPass reports whether a pass has begun and has not ended.
func (p position) inPass() bool { return p.below != 0 }

// end returns the position after the pass.
func (p position) end() position { return position{from: p.below, history: p.history, known: p.known} }

// fingerprint distinguishes tables, so that none continues from the cursor of another.
func fingerprint(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}

func (s *Source) encode(p position) (source.Cursor, error) {
	parts := []string{version, s.print, strconv.FormatUint(p.from, 10), strconv.FormatUint(p.below, 10), p.history.String(), url.QueryEscape(p.refused)}
	if p.known.remembered() {
		parts[0] = versionKnown
		parts = append(parts, p.known.String())
	}
	text := strings.Join(append(parts, string(p.inner), ""), ";")
	text += fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text)))
	c := source.Cursor(text)
	if len(c) > source.MaxCursor {
		return "", s.permanent("a key takes %d bytes in a cursor, which holds %d; choose a shorter key", len(p.inner), source.MaxCursor)
	}
	return c, nil
}

// decode reads a cursor. The table reads the inner one.
func (s *Source) decode(c source.Cursor) (position, error) {
	if c == "" {
		return position{}, nil
	}
	advice := s.startOver("use a cursor of this source, or start over with an empty checkpoint, which reads all rows again")
	if err := c.Validate(); err != nil {
		return position{}, s.permanent("%w; %s", err, advice)
	}
	damaged := func(why string) (position, error) {
		return position{}, s.permanent("the cursor %q is damaged (%s); %s", c.Short(), why, advice)
	}
	parts, inner := strings.SplitN(string(c), ";", 8), 6
	if parts[0] == versionKnown {
		inner = 7
	}
	switch {
	case len(parts) <= inner || parts[0] != version && parts[0] != versionKnown:
		return position{}, s.permanent("the cursor %q was not made by this package; %s", c.Short(), advice)
	case parts[1] != s.print:
		return position{}, s.permanent("the cursor %q is of another table or key; %s", c.Short(), advice)
	}
	end := len(c) - 8
	last, sum, ok := cutLast(strings.Join(parts[inner:], ";"))
	if !ok || len(sum) != 8 || fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(c[:end]))) != sum {
		return damaged("its checksum does not match")
	}
	p := position{inner: source.Cursor(last)}
	var errs [5]error
	p.from, errs[0] = strconv.ParseUint(parts[2], 10, 64)
	p.below, errs[1] = strconv.ParseUint(parts[3], 10, 64)
	p.history, errs[2] = parseHistory(parts[4])
	p.refused, errs[3] = url.QueryUnescape(parts[5])
	if inner == 7 {
		p.known, errs[4] = parseKnown(parts[6])
	}
	for _, err := range errs {
		if err != nil {
			return damaged("a part has another form")
		}
	}
	if p.below != 0 && p.below < p.from || p.inner != "" && !p.inPass() || p.known.missing > 0 && (p.inPass() || p.from == 0) {
		return damaged("its parts do not belong together")
	}
	return p, nil
}

// cutLast cuts a text at its last semicolon.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ';')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// describe returns where a position stands, for people.
func (s *Source) describe(p position) string {
	switch {
	case !p.inPass() && p.from == 0:
		return ""
	case p.known.missing > 0:
		return p.known.describe()
	case !p.inPass():
		return fmt.Sprintf("transactions below %d", p.from)
	}
	text := fmt.Sprintf("transactions from %d to %d", p.from, p.below-1)
	if key := s.table.Position(p.inner); key != "" {
		text += ", " + key
	}
	return text
}

// permanent returns an error of this source that is not worth retrying.
func (s *Source) permanent(format string, args ...any) error {
	return retry.Permanent(s.wrap(fmt.Errorf(format, args...)))
}

func (s *Source) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("xminsource: %s: %w", s.Name, err)
}

// history is what identifies the history of a database, as a cursor keeps it.
type history struct {
	values []string // cluster, timeline, database, table; "": not known
	mark   uint64   // a position of the log: each delivered version was committed before it
	boot   string   // when the server was started
}

// String returns the form that cursors hold, "" for the zero history.
func (h history) String() string {
	if h.values == nil {
		return ""
	}
	parts := []string{strconv.FormatUint(h.mark, 10), url.QueryEscape(h.boot)}
	for _, v := range h.values {
		parts = append(parts, url.QueryEscape(v))
	}
	return strings.Join(parts, "/")
}

func parseHistory(s string) (h history, err error) {
	if s == "" {
		return h, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 3 {
		return h, strconv.ErrSyntax
	}
	for i := range parts[1:] {
		if parts[i+1], err = url.QueryUnescape(parts[i+1]); err != nil {
			return h, err
		}
	}
	h.mark, err = strconv.ParseUint(parts[0], 10, 64)
	h.boot, h.values = parts[1], slices.Clone(parts[2:])
	return h, err
}
