package deadletter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/artifactofdevotion/devotion/sink/filesink"
)

// List returns the letters of a directory, oldest first, each ID once. It takes no
// lock, changes nothing, and may be called while a pipeline writes to the
// directory. A directory in which nothing was ever written has no letters.
//
// For a line that is not a letter, the sequence has an error that names the file and
// the offset, and then goes on. Other errors end it.
func List(dir string) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		c, err := contents(dir)
		if err != nil {
			yield(Letter{}, err)
			return
		}
		seen := map[string]bool{}
		for f, err := range scan(c.Parts, position{}) {
			if err == nil && seen[f.letter.ID] {
				continue
			}
			seen[f.letter.ID] = err == nil
			if !yield(f.letter, err) {
				return
			}
		}
	}
}

// found is a letter and the position after it.
type found struct {
	letter Letter
	next   position
}

// contents returns what the directory holds: nothing if nothing was ever written there.
func contents(dir string) (filesink.Contents, error) {
	c, err := filesink.ReadContents(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("deadletter: %w", err)
	}
	return c, nil
}

// scan reads the letters after a position. A line that is not a letter comes as an
// error, with the position after it.
func scan(parts []filesink.Part, after position) iter.Seq2[found, error] {
	return func(yield func(found, error) bool) {
		for _, p := range parts {
			at := position{segment: p.Number}
			switch {
			case p.Number < after.segment:
				continue
			case p.Number == after.segment:
				at = after
			}
			if !scanPart(p, at, yield) {
				return
			}
		}
	}
}

// scanPart returns false if the sequence has ended.
func scanPart(p filesink.Part, at position, yield func(found, error) bool) bool {
	r, err := p.Reader(at.offset)
	if errors.Is(err, fs.ErrNotExist) {
		return true // removed since it was listed
	}
	if err != nil {
		yield(found{}, fmt.Errorf("deadletter: %w", err))
		return false
	}
	defer r.Close()
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return true
		}
		if err != nil && !errors.Is(err, io.EOF) {
			yield(found{}, fmt.Errorf("deadletter: read %s: %w", p.Path, err))
			return false
		}
		f := found{next: position{at.segment, at.offset + int64(len(line))}}
		err = parse(line, &f.letter)
		if err != nil {
			err = fmt.Errorf("deadletter: %s: the line at offset %d is not a letter: %w", p.Path, at.offset, err)
		}
		if !yield(f, err) {
			return false
		}
		at = f.next
	}
}

func parse(line []byte, l *Letter) error {
	switch err := json.Unmarshal(line, l); {
	case !bytes.HasSuffix(line, []byte("\n")):
		return errors.New("it is cut off")
	case err != nil:
		*l = Letter{}
		return errors.New("it is not a JSON object with the keys of a letter") // the text of err may contain values
	case l.ID == "":
		return errors.New("it has no id")
	}
	return nil
}
