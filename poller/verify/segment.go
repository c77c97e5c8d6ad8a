package verify

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/artifactofdevotion/devotion/source/compare"
)

// maxDamaged is how many damaged records may precede the first good one.
const maxDamaged = 100

// segment is one that is being read.
type segment struct {
	*format
	name        string
	number      uint64
	file        io.Closer
	head        []compare.Entry // read already: up to the first good record
	first, last []string        // the keys of the first and the last good record, nil without one
}

// open opens the next segment of the run and reads it up to the first good record. It
// returns nil after the last one.
func (v *verifier) open() (*segment, error) {
	for len(v.contents.Parts) > 0 && v.contents.Parts[0].Number <= v.run.last {
		stored := v.contents.Parts[0]
		v.contents.Parts = v.contents.Parts[1:]
		file, err := stored.Reader(0)
		if errors.Is(err, fs.ErrNotExist) { // a consumer took it
			continue
		} else if err != nil {
			return nil, err
		}
		s := &segment{name: filepath.Base(stored.Path), number: stored.Number, file: file}
		if err := s.readHead(file, v.table.Key); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", s.name, err), file.Close())
		}
		return s, nil
	}
	return nil, nil
}

// readHead reads up to the first good record.
func (s *segment) readHead(in io.Reader, key []string) (err error) {
	if s.format, err = newFormat(in, filepath.Ext(s.name) == ".csv"); err != nil {
		return ignoreEOF(err)
	}
	whole := false // a record without the key
	for s.first == nil {
		e, good, err := s.entry(key)
		if err != nil && whole || len(s.head) == maxDamaged {
			return fmt.Errorf("no record has the columns %q, which are the key: verify needs them in the files", key)
		}
		if err != nil {
			return ignoreEOF(err)
		}
		_, ok := s.key(s.buf, nil)
		whole = whole || ok
		if s.head = append(s.head, e); good {
			s.first = s.last
		}
		if good && s.columns == nil {
			jsonFields(s.buf, func(name, _ []byte) { s.columns = append(s.columns, unquote(name)) })
		}
	}
	return nil
}

// entry reads a record. A damaged one gets its place in the file as its key.
func (s *segment) entry(key []string) (e compare.Entry, good bool, err error) {
	at := s.at
	record, err := s.next()
	if err != nil {
		return e, false, err
	}
	e.Digest = compare.Digest(record)
	texts, good := s.key(record, key)
	if !good {
		e.Key = fmt.Sprintf("(damaged: %s at byte %d)", s.name, at)
		return e, false, nil
	}
	s.last, e.Key = texts, keyText(texts)
	return e, true, nil
}

// entries yields all records and closes the file. It returns false if yield did, or
// after an error.
func (s *segment) entries(key []string, yield func(compare.Entry, error) bool) bool {
	defer s.file.Close()
	for _, e := range s.head {
		if !yield(e, nil) {
			return false
		}
	}
	s.head = nil
	for {
		e, _, err := s.entry(key)
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
		}
		if !yield(e, err) || err != nil {
			return false
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
