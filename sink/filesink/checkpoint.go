package filesink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
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

	History []entry `json:"history"` // oldest first, including the current cursor
}

type sealed struct {
	File  string        `json:"file"`
	Rows  int64         `json:"rows"`
	Bytes int64         `json:"bytes"`
	From  source.Cursor `json:"from"`
	To    source.Cursor `json:"to"`
}

type entry struct {
	Epoch uint64 `json:"epoch"`
	Entry
}

// clone returns a copy that can be changed without changing c.
func (c checkpoint) clone() checkpoint {
	c.Sealed, c.History = slices.Clone(c.Sealed), slices.Clone(c.History)
	return c
}

// seal ends the open segment, if there is one. Its records end at to.
func (c *checkpoint) seal(to source.Cursor) {
	if c.Offset == 0 {
		return
	}
	c.Sealed = append(c.Sealed, sealed{File: c.File, Rows: c.Rows, Bytes: c.Offset, From: c.From, To: to})
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

// The file is {"crc32c":"01234567","checkpoint":{...}} and a line feed. It is
// JSON, and the checksum has a fixed position.
const (
	beforeSum  = `{"crc32c":"`
	beforeBody = `","checkpoint":`
	afterBody  = "}\n"
	bodyAt     = len(beforeSum) + 8 + len(beforeBody)
)

func (c checkpoint) encode() ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return slices.Concat(envelope(body), body, []byte(afterBody)), nil
}

// envelope returns the bytes before body.
func envelope(body []byte) []byte {
	return fmt.Appendf(nil, "%s%08x%s", beforeSum, crc32.Checksum(body, castagnoli), beforeBody)
}

func decodeCheckpoint(text []byte) (c checkpoint, err error) {
	if len(text) < bodyAt+len(afterBody) {
		return c, fmt.Errorf("it is cut off after %d bytes", len(text))
	}
	body := text[bodyAt : len(text)-len(afterBody)]
	if !bytes.HasPrefix(text, envelope(body)) || !bytes.HasSuffix(text, []byte(afterBody)) {
		return c, errors.New("it does not match its checksum")
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
	impossible := c.Offset < 0 || c.Tail < 0 || c.Tail > c.Offset
	for _, seg := range c.Sealed {
		impossible = impossible || seg.Bytes < 0
	}
	if impossible {
		return c, errors.New("it has sizes that no segment can have")
	}
	return c, nil
}
