package sqlsource

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// slots is a digest of a row without its key: a number for each eighth of its columns, 0 where
// nothing can be compared. Together they identify the row; one by one they tell a row that was updated
// from one that was replaced.
type slots [8]uint16

func (s slots) String() string {
	b, _ := binary.Append(nil, binary.BigEndian, s) // it fails only where the size is not known
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseSlots(text string) (s slots, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil && len(b) != binary.Size(s) {
		err = errors.New("a digest has another length")
	}
	if err == nil {
		_, err = binary.Decode(b, binary.BigEndian, &s)
	}
	return s, err
}

// add adds a column. The name decides on the slot, so that other columns can come and go.
func (s *slots) add(name, text string, null bool) {
	i := slotOf(name)
	s[i] += uint16(hash64(name, strconv.FormatBool(null), text))
	s[i] = max(s[i], 1)
}

func slotOf(name string) int { return int(hash64(name) % uint64(len(slots{}))) }

func hash64(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		h.Write(unsafe.Slice(unsafe.StringData(p), len(p))) // without a copy: a value can be large
	}
	sum := h.Sum64()
	return sum ^ sum>>16 ^ sum>>32 ^ sum>>48 // the low bits alone mix badly
}

// layout is a digest of the names and types of the columns in each slot.
type layout [8]uint8

func layoutOf(columns []dialect.Column, key []string) (l layout) {
	for _, c := range columns {
		if !slices.Contains(key, c.Name) {
			l[slotOf(c.Name)] += uint8(hash64(c.Name, c.Type))
		}
	}
	return l
}

// forget returns the anchors without the slots in which two layouts differ.
func forget(anchors []anchor, before, now layout) []anchor {
	anchors = slices.Clone(anchors)
	for i := range anchors {
		for n := range now {
			if before[n] != now[n] {
				anchors[i].row[n] = 0
			}
		}
	}
	return anchors
}

// anchor is evidence of a row that was delivered.
type anchor struct {
	back int // how many rows were delivered after it, at most maxBack
	row  slots
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
	spare := enough - len(kept)
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
		dst = fmt.Appendf(dst, ",%d:%s", a.back, a.row)
		for _, v := range a.key {
			dst = append(append(dst, ':', v.Tag), url.QueryEscape(v.Text)...)
		}
	}
	return dst
}

func parseAnchor(s string) (a anchor, err error) {
	parts := strings.Split(s, ":")
	if len(parts) < 3 {
		return a, errors.New("an anchor is too short")
	}
	back, err := strconv.ParseUint(parts[0], 10, 32)
	if err != nil || back > maxBack {
		return a, errors.New("an anchor's distance is not a number")
	}
	a.back = int(back)
	if a.row, err = parseSlots(parts[1]); err != nil {
		return a, fmt.Errorf("an anchor is not in its usual form: %w", err)
	}
	for _, p := range parts[2:] {
		if p == "" {
			return a, errors.New("an anchor has no key")
		}
		text, err := url.QueryUnescape(p[1:])
		if err != nil {
			return a, errors.New("an anchor's key is not in its usual form")
		}
		a.key = append(a.key, dialect.Value{Tag: p[0], Text: text})
	}
	return a, nil
}

// verdict is what became of the row of an anchor.
type verdict int

const (
	gone     verdict = iota // no row has its key, or nothing can be said about it
	same                    // it is unchanged
	updated                 // some columns that tell rows apart kept their values
	replaced                // none of them did
)

// evidence is what a comparison of the anchors with their rows shows.
type evidence struct {
	verdicts []verdict // of the anchors, the newest first
	telling  int       // how many slots tell rows apart
	known    int       // how many rows kept a value that no other anchor has
	proof    bool      // the cursor's own row is among these
}

// compareAnchors judges the rows that have the keys of the anchors. Slots in changing have been
// seen to change, and are ignored. It returns the anchors with the rows as they are now, and
// the slots that have changed.
func compareAnchors(anchors []anchor, now map[string]slots, changing uint8, at []dialect.Value) (e evidence, next []anchor, changed uint8) {
	telling, unique := tellingSlots(anchors, changing)
	e.telling = bits.OnesCount8(telling)
	for i, a := range anchors {
		row, ok := now[keyText(a.key)]
		var equal, differs uint8
		for i := range row {
			switch {
			case !ok || row[i] == 0 || a.row[i] == 0:
			case row[i] == a.row[i]:
				equal |= 1 << i
			default:
				differs |= 1 << i
			}
		}
		v := gone
		switch {
		case !ok:
			row = a.row
		case differs&^changing == 0 && equal != 0:
			v = same
		case telling&equal != 0:
			v = updated
		case telling&differs != 0:
			v = replaced
		}
		if unique&equal != 0 {
			e.known++
			e.proof = e.proof || i == 0 && slices.Equal(a.key, at)
		}
		changed |= differs
		a.row = row
		e.verdicts, next = append(e.verdicts, v), append(next, a)
	}
	return e, next, changed
}

// tellingSlots returns the slots in which anchors differ, and those in which no two of at least
// three anchors are equal.
func tellingSlots(anchors []anchor, changing uint8) (telling, unique uint8) {
	for i := range len(slots{}) {
		values := map[uint16]bool{}
		n := 0
		for _, a := range anchors {
			if a.row[i] != 0 {
				values[a.row[i]] = true
				n++
			}
		}
		if len(values) > 1 || n == 1 {
			telling |= 1 << i
		}
		if len(values) == n && n >= enough {
			unique |= 1 << i
		}
	}
	return telling &^ changing, unique &^ changing
}

// enough is how many rows that are still there prove a history.
const enough = 3

func keyText(key []dialect.Value) string {
	var b []byte
	for _, v := range key {
		b = append(append(strconv.AppendInt(append(b, v.Tag), int64(len(v.Text)), 10), ':'), v.Text...)
	}
	return string(b)
}

func (e evidence) count(wanted ...verdict) (n int) {
	for _, v := range e.verdicts {
		if slices.Contains(wanted, v) {
			n++
		}
	}
	return n
}

// proves reports that the rows show that nothing was lost: the cursor's own row is there, and so
// are others, and none was replaced.
func (e evidence) proves() bool {
	return e.proof && e.count(replaced) == 0 && e.count(same, updated) >= enough
}

// disproves reports that rows were replaced: either the newest ones, as when the table comes from an
// older backup, or most of them, while none is known. A single one may have been updated, if one
// column tells all rows apart.
func (e evidence) disproves() bool {
	n, kept := e.count(replaced), e.count(same, updated)
	lead := 0 // how many were replaced before the first that was not
	for _, v := range e.verdicts {
		if v == same || v == updated {
			break
		}
		if v == replaced {
			lead++
		}
	}
	return lead > 1 || lead == 1 && (e.telling > 1 || kept == 0) || n > 0 && e.known == 0 && n >= kept
}

func (e evidence) String() string {
	return fmt.Sprintf("of %d delivered rows %d are the same, %d were updated, %d were replaced, %d are gone or cannot be compared",
		len(e.verdicts), e.count(same), e.count(updated), e.count(replaced), e.count(gone))
}
