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

	"github.com/artifactofdevotion/devotion/source"
)

const checkpointName = "checkpoint"

// checkpointVersion changes with any key of the file, and only as
// poller/integration/testdata/compat/README.md has it: a release that is rolled
// back must find what it can read.
const checkpointVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkpoint is the state of the directory: everything that is committed, and
// nothing else, is what it says. It is one JSON object in a small file.
type checkpoint struct {
	Version int           `json:"version"`
	Name    string        `json:"name"`
	Cursor  source.Cursor `json:"cursor"`
	Writer  string        `json:"writer"` // the token of the handle that stored it
	Epoch   uint64        `json:"epoch"`  // how often the cursor was stored

	// The open segment. Offset is 0 if there is none: Segment is then the
	// number of the next.
	Segment uint64        `json:"segment"`
	File    string        `json:"file,omitempty"`  // its final name
	Shape   string        `json:"shape,omitempty"` // what its header and columns were
	Offset  int64         `json:"offset"`          // its committed size
	Rows    int64         `json:"rows"`
	From    source.Cursor `json:"from,omitempty"`   // the cursor before its first record
	Opened  time.Time     `json:"opened,omitzero"`  // when that was written
	Tail    int64         `json:"tail,omitempty"`   // how many bytes before Offset CRC covers
	CRC     uint32        `json:"crc32c,omitempty"` // those of the last write

	// Sealed segments that may not be published or announced yet.
	Sealed []sealed `json:"sealed,omitempty"`

	History []entry `json:"history"` // oldest first, the current one included
}

type sealed struct {
	File  string        `json:"file"`
	Rows  int64         `json:"rows"`
	Bytes int64         `json:"bytes"`
	From  source.Cursor `json:"from"`
	To    source.Cursor `json:"to"`
}

type entry struct {
	Epoch   uint64        `json:"epoch"`
	Cursor  source.Cursor `json:"cursor"`
	Time    time.Time     `json:"time"`
	Segment string        `json:"segment,omitempty"`
	Offset  int64         `json:"offset"`
	Rows    int64         `json:"rows"`
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

// move sets the cursor and enters it in the history.
func (c *checkpoint) move(to source.Cursor, now time.Time) {
	c.Cursor = to
	c.Epoch++
	c.History = slices.DeleteFunc(c.History, func(e entry) bool { return !kept(e.Epoch, c.Epoch) })
	c.History = append(c.History, entry{
		Epoch: c.Epoch, Cursor: to, Time: now, Segment: c.File, Offset: c.Offset, Rows: c.Rows,
	})
}

// kept says which entries of the history stay: of the multiples of each power
// of two the last four. These are all of the last few, and fewer and fewer the
// further back they are: a week of checkpoints a second apart in 40 entries.
func kept(epoch, now uint64) bool {
	k := bits.TrailingZeros64(epoch)
	return now>>k-epoch>>k < 4
}

// The file is {"crc32c":"01234567","checkpoint":{...}} and a line feed: JSON to
// those who read it, and to this package a sum at a fixed place.
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

// envelope returns what stands before body.
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
	var is struct{ Version int } // first: another version may have other types
	if err := json.Unmarshal(body, &is); err != nil {
		return c, err
	}
	if is.Version != checkpointVersion {
		return c, fmt.Errorf("it is of version %d, and this program knows version %d alone (run the release that wrote it, or a later one)", is.Version, checkpointVersion)
	}
	err = json.Unmarshal(body, &c)
	return c, err
}
