package filesink

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
)

const checkpointName = "checkpoint"

// checkpointVersion changes with any key of the file, by the rules of
// poller/integration/testdata/compat/README.md: after a rollback the older
// release must be able to read the file.
const checkpointVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkpoint says what is committed in the directory; everything else is not. It
// is one JSON object in a small file.
type checkpoint struct {
	Version int           `json:"version"`
	Name    string        `json:"name"`
	Cursor  source.Cursor `json:"cursor"`
	Writer  string        `json:"writer"` // token of the handle that stored the cursor
	Epoch   uint64        `json:"epoch"`  // how often the cursor has changed

	// The open segment. Without one, Offset is 0 and Segment is the number of the
	// next one.
	Segment uint64        `json:"segment"`
	File    string        `json:"file,omitempty"`  // its final name
	Shape   string        `json:"shape,omitempty"` // digest of its header and columns
	Offset  int64         `json:"offset"`          // its committed size
	Rows    int64         `json:"rows"`
	From    source.Cursor `json:"from,omitempty"`   // the cursor before its first record
	Opened  time.Time     `json:"opened,omitzero"`  // when that was written
	Tail    int64         `json:"tail,omitempty"`   // how many bytes before Offset the CRC covers
	CRC     uint32        `json:"crc32c,omitempty"` // of the last write

	// Sealed segments that may not have their final names or be announced yet.
	Sealed []sealed `json:"sealed,omitempty"`

	Rewinds []Rewind `json:"rewinds,omitempty"` // oldest first, at most maxRewinds

	History []entry `json:"history"` // oldest first, including the current cursor
}

type sealed struct {
	File  string        `json:"file"`
	Rows  int64         `json:"rows"`
	Bytes int64         `json:"bytes"`
	From  source.Cursor `json:"from"`
	To    source.Cursor `json:"to"`
	Time  time.Time     `json:"time,omitzero"`    // when it was sealed
	Tail  int64         `json:"tail,omitempty"`   // as of the open segment
	CRC   uint32        `json:"crc32c,omitempty"` // 0, with Tail, before this key existed
}

// number returns the number in the name of a valid segment.
func (s sealed) number() uint64 {
	_, n, _ := parseSegment(s.File)
	return n
}

type entry struct {
	Epoch uint64 `json:"epoch"`
	Entry
}

// clone returns a copy that can be changed without changing c.
func (c checkpoint) clone() checkpoint {
	c.Sealed, c.History, c.Rewinds = slices.Clone(c.Sealed), slices.Clone(c.History), slices.Clone(c.Rewinds)
	return c
}

// rewound records that the next segment begins after another cursor than the one
// before ended at. Rewinds without a record between them are one.
func (c *checkpoint) rewound(from, to source.Cursor) {
	if n := len(c.Rewinds); n > 0 && c.Rewinds[n-1].Segment == c.Segment {
		c.Rewinds[n-1].To = to
		return
	}
	c.Rewinds = append(c.Rewinds, Rewind{c.Segment, from, to})
	c.Rewinds = c.Rewinds[max(0, len(c.Rewinds)-maxRewinds):]
}

// seal ends the open segment, if there is one. Its records end at to.
func (c *checkpoint) seal(to source.Cursor, now time.Time) {
	if c.Offset == 0 {
		return
	}
	c.Sealed = append(c.Sealed, sealed{File: c.File, Rows: c.Rows, Bytes: c.Offset, From: c.From, To: to, Time: now, Tail: c.Tail, CRC: c.CRC})
	c.Segment++
	c.File, c.Shape, c.Offset, c.Rows, c.From, c.Opened, c.Tail, c.CRC = "", "", 0, 0, "", time.Time{}, 0, 0
}

// state returns the stored cursor with the time at which it was stored.
func (c checkpoint) state() durable.State {
	s := durable.State{Cursor: c.Cursor, Writer: c.Writer, Seq: int64(c.Epoch)}
	if n := len(c.History); n > 0 {
		s.Time = c.History[n-1].Time
	}
	return s
}

// move sets the cursor and adds it to the history.
func (c *checkpoint) move(to durable.State, now time.Time) {
	c.Cursor, c.Writer, c.Epoch = to.Cursor, to.Writer, uint64(to.Seq)
	c.History = slices.DeleteFunc(c.History, func(e entry) bool { return !kept(e.Epoch, c.Epoch) })
	c.History = append(c.History, entry{c.Epoch, Entry{to.Cursor, now, c.File, c.Offset, c.Rows}})
}

// entries returns the history, newest first.
func (c checkpoint) entries() []Entry {
	entries := make([]Entry, 0, len(c.History))
	for _, e := range slices.Backward(c.History) {
		entries = append(entries, e.Entry)
	}
	return entries
}

// kept says which entries of the history stay: the last four multiples of each
// power of two. So the latest entries are complete, and older ones become
// sparser: 40 entries cover a week of checkpoints one second apart.
func kept(epoch, now uint64) bool {
	k := bits.TrailingZeros64(epoch)
	return now>>k-epoch>>k < 4
}

func (c checkpoint) encode() ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return durable.AddChecksum(body), nil
}

func decodeCheckpoint(text []byte) (c checkpoint, err error) {
	body, err := durable.VerifyChecksum(text)
	if err != nil {
		return c, err
	}
	var is struct{ Version int } // read first: another version may have other types
	if err := json.Unmarshal(body, &is); err != nil {
		return c, err
	}
	if is.Version != checkpointVersion {
		return c, fmt.Errorf("it has format version %d, and this program reads version %d only (run the release that wrote it, or a later one)", is.Version, checkpointVersion)
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return c, err
	}
	return c, c.validate()
}

// validate returns an error if c has values that no checkpoint has, although its
// checksum is right: someone has written it.
func (c checkpoint) validate() error {
	if c.Offset < 0 || c.Rows < 0 || c.Tail < 0 || c.Tail > c.Offset {
		return errImpossible
	}
	if !validName.MatchString(c.Name) || c.Segment < 1 || c.Segment > maxSegment || c.Epoch > math.MaxInt64-1 {
		return errors.New("it has no valid name, segment or epoch")
	}
	if of, number, ok := parseSegment(c.File); c.Offset > 0 && (!ok || of != c.Name || number != c.Segment) {
		return fmt.Errorf("its open segment cannot be %q", c.File)
	}
	cursors := []source.Cursor{c.Cursor, c.From}
	for _, seg := range c.Sealed {
		if seg.Bytes < 0 || seg.Rows < 0 || seg.Tail < 0 || seg.Tail > seg.Bytes {
			return errImpossible
		}
		if of, number, ok := parseSegment(seg.File); !ok || of != c.Name || number >= c.Segment {
			return fmt.Errorf("its sealed segment cannot be %q", seg.File)
		}
		cursors = append(cursors, seg.From, seg.To)
	}
	for _, r := range c.Rewinds {
		if r.Segment < 1 || r.Segment > c.Segment {
			return errors.New("its rewinds are not of its segments")
		}
		cursors = append(cursors, r.From, r.To)
	}
	for _, e := range c.History {
		if e.Epoch > c.Epoch || e.Offset < 0 || e.Rows < 0 {
			return errors.New("its history is not one of its cursor")
		}
		cursors = append(cursors, e.Cursor)
	}
	for _, cursor := range cursors {
		if err := cursor.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// maxRewinds limits the size of the checkpoint, which is replaced for each batch.
const maxRewinds = 50

const maxSegment = 9_999_999_999 // the number has 10 digits in names

var errImpossible = errors.New("it has sizes that no segment can have")
