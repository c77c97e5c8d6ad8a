package compare

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is the result of [Streams].
type Report struct {
	// Missing, Extra and Changed are the records that differ.
	Missing, Extra, Changed Found

	// Ranges are consecutive ranges of keys, at most 32. They have about the same
	// number of records.
	Ranges []Range
}

// Found are the records of one kind of difference.
type Found struct {
	Records int64
	First   []string // the keys of the first ten
}

// Range is a range of keys.
type Range struct {
	First, Last string // keys of the first and the last record

	// Records are the numbers of records in both streams, and Digests the sums of their
	// digests. Streams with equal records have equal digests.
	Want, Got             int64
	WantDigest, GotDigest uint64

	Missing, Extra, Changed int64
}

// Equal reports whether the streams have the same records in this range.
func (r Range) Equal() bool { return r.Missing == 0 && r.Extra == 0 && r.Changed == 0 }

// Equal reports whether the streams have the same records.
func (r Report) Equal() bool {
	return r.Missing.Records == 0 && r.Extra.Records == 0 && r.Changed.Records == 0
}

// Want returns the number of records in the first stream.
func (r Report) Want() (n int64) {
	for _, each := range r.Ranges {
		n += each.Want
	}
	return n
}

// Got returns the number of records in the second stream.
func (r Report) Got() (n int64) {
	for _, each := range r.Ranges {
		n += each.Got
	}
	return n
}

const (
	maxRanges = 32
	maxKeys   = 10
)

// Streams compares two streams, see [Align]. After an error the report covers the
// records before it.
func Streams(want, got iter.Seq2[Entry, error], o Options) (Report, error) {
	var r Report
	size := int64(1) // of a range, in pairs
	inLast := size   // pairs in the last range
	for p, err := range Align(want, got, o) {
		if err != nil {
			return r, err
		}
		if inLast == size {
			if len(r.Ranges) == maxRanges {
				r.Ranges = merge(r.Ranges)
				size *= 2
			}
			r.Ranges, inLast = append(r.Ranges, Range{First: p.Key()}), 0
		}
		inLast++
		r.add(p)
	}
	return r, nil
}

func (r *Report) add(p Pair) {
	last := &r.Ranges[len(r.Ranges)-1]
	last.Last = p.Key()
	if p.Kind != Extra {
		last.Want++
		last.WantDigest += p.Want.Digest
	}
	if p.Kind != Missing {
		last.Got++
		last.GotDigest += p.Got.Digest
	}
	switch p.Kind {
	case Missing:
		last.Missing++
		r.Missing.add(p.Key())
	case Extra:
		last.Extra++
		r.Extra.add(p.Key())
	case Changed:
		last.Changed++
		r.Changed.add(p.Key())
	}
}

func (f *Found) add(key string) {
	if f.Records++; len(f.First) < maxKeys {
		f.First = append(f.First, key)
	}
}

// merge joins each two neighbours.
func merge(ranges []Range) (half []Range) {
	for two := range slices.Chunk(ranges, 2) {
		a, b := two[0], two[1]
		half = append(half, Range{
			First: a.First, Last: b.Last,
			Want: a.Want + b.Want, Got: a.Got + b.Got,
			WantDigest: a.WantDigest + b.WantDigest, GotDigest: a.GotDigest + b.GotDigest,
			Missing: a.Missing + b.Missing, Extra: a.Extra + b.Extra, Changed: a.Changed + b.Changed,
		})
	}
	return half
}

// String returns the ranges as a table, and then the first keys of each kind of
// difference. Equal ranges that follow each other are one line.
func (r Report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "keys\twant\tgot\tdigests\tmissing\textra\tchanged")
	for _, each := range r.lines() {
		digests := fmt.Sprintf("%016x", each.WantDigest)
		if each.WantDigest != each.GotDigest {
			digests += fmt.Sprintf(", %016x", each.GotDigest)
		}
		fmt.Fprintf(w, "%s to %s\t%d\t%d\t%s\t%d\t%d\t%d\n", short(each.First), short(each.Last), each.Want, each.Got, digests, each.Missing, each.Extra, each.Changed)
	}
	_ = w.Flush() // a strings.Builder does not fail
	b.WriteString(r.Missing.line(Missing) + r.Extra.line(Extra) + r.Changed.line(Changed))
	return b.String()
}

// lines returns the ranges, with equal neighbours joined.
func (r Report) lines() (lines []Range) {
	for _, each := range r.Ranges {
		if n := len(lines); n > 0 && each.Equal() && lines[n-1].Equal() {
			lines[n-1] = merge([]Range{lines[n-1], each})[0]
			continue
		}
		lines = append(lines, each)
	}
	return lines
}

func (f Found) line(k Kind) string {
	if f.Records == 0 {
		return ""
	}
	var keys []string
	for _, key := range f.First {
		keys = append(keys, short(key))
	}
	if f.Records > int64(len(keys)) {
		keys = append(keys, "...")
	}
	return fmt.Sprintf("%s: %d: %s\n", k, f.Records, strings.Join(keys, " "))
}

// short cuts a long key.
func short(key string) string {
	const most = 100
	if len(key) > most {
		key = strings.ToValidUTF8(key[:most], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, key)
}
