package xminsource

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// known is what a cursor says of the keys that were delivered and not deleted since. The zero value says nothing.
type known struct {
	lineage uint64    // made at random by the first load; 0: the keys are not known
	pass    uint64    // how many key passes have written new lists
	keys    listPlace // the end of the list of the keys
	entries uint64    // how many it has: a key that was delivered twice is there twice
	gone    listPlace // the end of the list of the keys that the key pass has missed
	missing uint64    // how many it has; 0: no key pass goes on
	taken   uint64    // how many of them were looked up
	halfway bool      // the key was deleted that an equal one has replaced, and the row of that comes next
	began   uint64    // when the last key pass began, in Unix milliseconds
	asOf    uint64    // deletes that were committed before it were delivered; in Unix milliseconds, 0: not known
}

// listPlace is a place in a list: a segment and an offset in it. The zero place is before everything.
type listPlace struct{ segment, offset uint64 }

// remembered reports whether the delivered keys are known.
func (k known) remembered() bool { return k.lineage != 0 }

// numbers returns where the numbers are, in the order of a cursor.
func (k *known) numbers() []*uint64 {
	return []*uint64{&k.lineage, &k.pass, &k.keys.segment, &k.keys.offset, &k.entries, &k.gone.segment, &k.gone.offset, &k.missing, &k.taken, &k.began, &k.asOf}
}

func (k known) String() string {
	parts := make([]string, 0, 12)
	for _, n := range k.numbers() {
		parts = append(parts, strconv.FormatUint(*n, 36))
	}
	return strings.Join(append(parts, strconv.FormatBool(k.halfway)), "/")
}

func parseKnown(s string) (k known, err error) {
	parts, numbers := strings.Split(s, "/"), k.numbers()
	if len(parts) != len(numbers)+1 {
		return k, strconv.ErrSyntax
	}
	for i, n := range numbers {
		if *n, err = strconv.ParseUint(parts[i], 36, 64); err != nil {
			return k, err
		}
	}
	if k.halfway, err = strconv.ParseBool(parts[len(numbers)]); err != nil {
		return k, err
	}
	if k.String() != s || !k.remembered() || k.taken > k.missing || k.missing > 0 && k.taken == k.missing {
		return k, strconv.ErrSyntax
	}
	return k, nil
}

// describe returns how far a key pass is, for people.
func (k known) describe() string {
	return fmt.Sprintf("looking for deletes: %d of %d keys", k.taken, k.missing)
}

// time returns a time of a cursor.
func timeOf(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// millis is the reverse of timeOf.
func millis(t time.Time) uint64 { return uint64(max(0, t.UnixMilli())) }
