package filecheckpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
)

// version changes with any key of the file, by the rules of
// poller/integration/testdata/compat/README.md: after a rollback the older
// release must be able to read the file.
const version = 1

// errVersion is wrapped by the error about a file of a later format version.
var errVersion = errors.New("run the release that wrote it, or a later one; or stop the pipeline, remove the file and Rewind to the cursor to continue from")

// checkpoint is the content of the file.
type checkpoint struct {
	Version int `json:"version"`
	Entry
	Seq     int64   `json:"seq"`
	History []Entry `json:"history"` // earlier entries, newest first
}

func (c checkpoint) state() durable.State {
	return durable.State{Cursor: c.Cursor, Writer: c.Writer, Seq: c.Seq, Time: c.Time}
}

// next returns the checkpoint that follows c and keeps n cursors in all.
func (c checkpoint) next(s durable.State, n int) checkpoint {
	earlier := append([]Entry{}, c.all()...) // never null in the file
	return checkpoint{
		Version: version,
		Entry:   Entry{s.Cursor, s.Writer, s.Time},
		Seq:     s.Seq,
		History: earlier[:min(len(earlier), n-1)],
	}
}

// all returns the stored entries, newest first.
func (c checkpoint) all() []Entry {
	if c.Version == 0 { // nothing was stored
		return nil
	}
	return append([]Entry{c.Entry}, c.History...)
}

func (c checkpoint) text() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return nil, err
	}
	return durable.AddChecksum(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// parse reads the text of a file. A checkpoint without a checksum was written by a
// person, or before there was one.
func parse(text []byte) (c checkpoint, err error) {
	if durable.HasChecksum(text) {
		if text, err = durable.VerifyChecksum(text); err != nil {
			return c, err
		}
	}
	var is struct { // read first: another version may have other keys
		Version int
		Cursor  *source.Cursor
	}
	if _ = json.Unmarshal(text, &is); is.Version > version {
		return c, fmt.Errorf("the file has format version %d, and this program reads version %d only: %w", is.Version, version, errVersion)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // a misspelt key would leave the cursor empty
	switch err := d.Decode(&c); {
	case errors.Is(err, io.EOF):
		return c, errors.New("it is empty")
	case err != nil:
		return c, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("there is more text after the JSON object")
	}
	if c.Version != version {
		return c, errors.New(`it has no "version"`)
	}
	if is.Cursor == nil { // it would start over
		return c, errors.New(`it has no "cursor"`)
	}
	return c, c.validate()
}

// validate returns an error if neither a [File] nor a person can have written c.
func (c checkpoint) validate() error {
	if c.Writer == "" {
		return errors.New(`it has no "writer"`)
	}
	if c.Seq < 0 || c.Seq > maxSeq {
		return errors.New(`its "seq" is out of range`)
	}
	for _, e := range c.all() {
		if err := e.Cursor.Validate(); err != nil {
			return err
		}
	}
	return nil
}

const (
	maxSeq  = 1 << 62
	maxFile = 32 << 20 // above 1,000 cursors of the greatest length, each byte escaped
)
