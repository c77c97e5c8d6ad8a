package sqlsource

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// A digest holds a number for each column of a row, without those of the key. A layout says which columns
// these are. Columns can come and go, and are told apart by name and type.
type (
	digest []uint32
	layout []uint32
)

// What the numbers of a digest mean, besides hashes.
const (
	unknown = 0 // nothing can be compared
	null    = 1
)

// maxColumns is how many numbers a digest has at most. Further columns share the last one.
const maxColumns = 64

// maxDigested is the length of the longest text that a digest takes in. Delivered rows are read again
// without their large values, those of more than 16 times this size: whatever the type, their text is longer
// than maxDigested.
const maxDigested = 64 << 10

func addColumn(all []uint32, n uint32) []uint32 {
	if len(all) < maxColumns {
		return append(all, n)
	}
	if last := &all[maxColumns-1]; n == unknown || *last == unknown {
		*last = unknown
	} else {
		*last = max(*last+n, null+1)
	}
	return all
}

// layoutOf returns the layout of columns. A length, a precision or a scale changes how a value is written. They are
// part of the catalogue's name for a type. A driver may have another name for it, or its number in one cluster.
func layoutOf(columns []dialect.Column, key []string, types map[string]row.Type) (l layout) {
	for _, c := range columns {
		if slices.Contains(key, c.Name) {
			continue
		}
		id := hash(c.Name, cmp.Or(types[c.Name].Name, fmt.Sprint(c.Type, " ", c.Length, c.Precision, c.Scale)))
		for len(l) < maxColumns && slices.Contains(l, id) {
			id++
		}
		l = addColumn(l, id)
	}
	return l
}

// digestOf makes the digest of a row, of which number returns that of the i-th column.
func digestOf(columns []dialect.Column, key []string, number func(i int) uint32) (d digest) {
	for i, c := range columns {
		if !slices.Contains(key, c.Name) {
			d = addColumn(d, number(i))
		}
	}
	return d
}

// digestText returns the number of a value.
func digestText(text string) uint32 {
	if len(text) > maxDigested {
		return unknown
	}
	return hash(text)
}

// hash makes a number of texts, such that two that differ have the same number once in four thousand million
// times: two delivered rows that share a number by chance would have no evidence.
func hash(parts ...string) uint32 {
	h := fnv.New64a()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		h.Write([]byte(p))
	}
	sum := h.Sum64()
	return max(uint32(sum^sum>>32), null+1)
}

// numbersText and parseNumbers write and read layouts and digests in a cursor.
func numbersText(all []uint32) string {
	b, _ := binary.Append(nil, binary.BigEndian, all) // it fails only where the size is not known
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseNumbers(text string) (all []uint32, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	for ; len(b) >= 4 && len(all) < maxColumns; b = b[4:] { // bytes too many show when they are written again
		all = append(all, binary.BigEndian.Uint32(b))
	}
	return all, err
}

// realign returns the anchors as they are with another layout.
func realign(anchors []anchor, before, now layout) []anchor {
	anchors = slices.Clone(anchors)
	for n, a := range anchors {
		anchors[n].row = make(digest, len(now))
		for i, id := range now {
			if at := slices.Index(before, id); at >= 0 && at < len(a.row) {
				anchors[n].row[i] = a.row[at]
			}
		}
	}
	return anchors
}

// anchor is evidence of a row that was delivered.
type anchor struct {
	back int // how many rows were delivered after it, at most maxBack
	row  digest
	key  []dialect.Value
}

// An anchor is kept for each power of eight: at most one that lies back less than 1, 8, 64, 512,
// 4,096 and any more rows.
const (
	levels       = 6
	maxBack      = 1 << 20
	maxAnchorKey = 128 // bytes; a longer key makes no anchor
	anchorEvery  = 32  // a row of a batch, at least, can become one
)

func (a anchor) level() int { return min((bits.Len(uint(a.back))+2)/3, levels-1) }

// moveAnchors adds the anchors of a batch of rows, the last of them first, to older ones. In each level
// it keeps the one that lies back farthest, so that it moves on to the next level in time. The last
// level keeps the nearest one, which is least likely to have been pruned. While that leaves too few
// for a proof, it keeps others as well.
func moveAnchors(older, batch []anchor, rows int) (out []anchor) {
	all := slices.Clone(batch)
	for _, a := range older {
		a.back = min(a.back+rows, maxBack)
		all = append(all, a)
	}
	kept := map[int]int{} // by level
	for i, a := range all {
		if l := a.level(); kept[l] == 0 || l < levels-1 {
			kept[l] = i + 1
		}
	}
	spare := levels - len(kept)
	for i, a := range all {
		if kept[a.level()] == i+1 {
			out = append(out, a)
		} else if spare > 0 {
			out, spare = append(out, a), spare-1
		}
	}
	return out
}

func appendAnchors(dst []byte, anchors []anchor) []byte {
	for _, a := range anchors {
		dst = fmt.Appendf(dst, ",%d:%s", a.back, numbersText(a.row))
		for _, v := range a.key {
			dst = append(append(dst, ':', v.Tag), escapeParts.Replace(v.Text)...)
		}
	}
	return dst
}

// errAnchor says that an anchor is not in its usual form.
var errAnchor = errors.New("an anchor is not in its usual form")

func parseAnchor(s string) (a anchor, err error) {
	parts := strings.Split(s, ":")
	if len(parts) < 3 {
		return a, errAnchor
	}
	back, failed := strconv.ParseUint(parts[0], 10, 32)
	a.back = int(back)
	a.row, err = parseNumbers(parts[1])
	for _, p := range parts[2:] {
		if cmp.Or(failed, err) != nil || p == "" || back > maxBack {
			return a, errAnchor
		}
		v := dialect.Value{Tag: p[0], Text: unescapeParts.Replace(p[1:])}
		a.key, err = append(a.key, v), checkValue(v)
	}
	return a, err
}

// enough is how many rows show which columns tell rows apart.
const enough = 3

// verdict is what became of the row of an anchor.
type verdict int

const (
	gone     verdict = iota // no row has its key, or too little of it can be compared
	same                    // it is unchanged
	updated                 // it changed, and kept a value that tells rows apart, or of few rows half its values
	replaced                // it changed, and so did all values that tell rows apart
	unclear                 // it changed, and had no value that tells rows apart
)

// evidence is what a comparison of the anchors with their rows shows.
type evidence struct {
	all     int              // how many anchors there are
	with    [unclear + 1]int // how many of them have each verdict
	own     bool             // the cursor's own row kept a telling value
	kept    int              // how many telling values were kept
	told    map[int]bool     // in which columns
	lost    int              // how many telling values changed
	doubt   bool             // from the newest row to some other one, more telling values changed than were kept
	changed int              // how many telling values the newest rows had, those in lead, which all changed
	lead    int              // how many rows were replaced before the first that was not
	found   bool             // a row has the key of an anchor, or anchors are missing
}

// compareAnchors judges the rows that have the keys of the anchors. It returns the anchors with the rows
// as they are now, so that the next change is seen as well.
func compareAnchors(anchors []anchor, now map[string]digest, at []dialect.Value) (e evidence, next []anchor) {
	telling, leads := tellingColumns(anchors), true
	e = evidence{all: len(anchors), told: map[int]bool{}, found: len(now) > 0} // the text of a key can be another one than it was
	for i, a := range anchors {
		row, found := now[keyText(a.key)]
		compared, differs, large, kept, changed, alike := len(row) == 0, false, false, 0, 0, 0
		for c := range min(len(row), len(a.row)) {
			before, after := a.row[c], row[c]
			if before == unknown || after == unknown {
				if after == null { // what is too large to be read again is read as NULL
					row[c] = unknown
				}
				large = large || row[c] == unknown
				continue
			}
			compared, differs = true, differs || before != after
			if before != null && before == after {
				alike++
			} else if before != after {
				alike--
			}
			switch {
			case !telling[c] || before == null:
			case before == after:
				kept++
				e.told[c] = true
			default:
				changed++
			}
		}
		v := unclear
		compared = found && compared && (differs || kept > 0 || !large) // a state alone shows nothing of a large value
		switch {
		case !compared:
			v = gone
		case !differs:
			v = same
		case kept > 0 || len(anchors) < enough && alike >= 0:
			v = updated
		case changed > 0:
			v = replaced
		}
		if found {
			a.row = row
		}
		leads = leads && v != same && v != updated
		if leads && v == replaced {
			e.lead++
			e.changed += changed
		}
		e.kept, e.lost = e.kept+kept, e.lost+changed
		e.doubt = e.doubt || i > 0 && e.lost > max(e.kept, 3)
		e.own = e.own || i == 0 && kept > 0 && slices.Equal(a.key, at)
		e.with[v]++
		next = append(next, a)
	}
	return e, next
}

// tellingColumns returns the columns whose values tell rows apart: enough anchors have one, and no two have the same. NULL is not a value.
func tellingColumns(anchors []anchor) []bool {
	telling := make([]bool, maxColumns)
	for c := 0; anchors != nil && c < len(anchors[0].row); c++ {
		var values []uint32
		for _, a := range anchors {
			if a.row[c] > null {
				values = append(values, a.row[c])
			}
		}
		slices.Sort(values)
		telling[c] = len(values) >= enough && len(slices.Compact(values)) == len(values)
	}
	return telling
}

func keyText(key []dialect.Value) string {
	var b []byte
	for _, v := range key {
		b = append(append(strconv.AppendInt(append(b, v.Tag), int64(len(v.Text)), 10), ':'), v.Text...)
	}
	return string(b)
}

// proves reports that the rows show the cursor's own history: its own row is there, no value that tells rows
// apart changed, and two or more were kept, so that it is not by chance. A value that is made of the key, such
// as an order number, is kept in any history: so two columns must tell, or no row has changed.
func (e evidence) proves() bool {
	return e.own && e.lost == 0 && e.kept > 1 && (len(e.told) > 1 || e.with[same]+e.with[gone] == e.all)
}

// disproves reports that the newest rows were replaced, as when the table was filled again or comes from
// an older backup. One row, or one value in each of a few rows, may have been updated.
func (e evidence) disproves() bool { return e.lead > 1 && e.changed > 3 }

// suspect reports that rows may have been replaced. What says which marks have changed.
func (e evidence) suspect(what string) bool {
	return e.doubt || e.with[replaced]+e.with[unclear] > 0 || what != "" && e.blind()
}

// blind reports that there should be delivered rows, and none of them can be compared.
func (e evidence) blind() bool { return e.found && e.with[gone] == e.all }

// doubtful reports that rows may have been replaced, or that none is left to show it.
func (e evidence) doubtful() bool { return e.suspect("") || e.all > 0 && !e.found }

func (e evidence) String() string {
	if e.all == 0 {
		return "no delivered row can be compared"
	}
	return fmt.Sprintf("of %d delivered rows %d are the same, %d were updated, %d were replaced, %d were updated or replaced, %d are gone or cannot be compared",
		e.all, e.with[same], e.with[updated], e.with[replaced], e.with[unclear], e.with[gone])
}
