package filesink

import (
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/sink/durable"
)

// recover opens the directory if that has not succeeded yet, and brings it back to
// what is committed.
func (s *store) recover() (err error) {
	s.broken = true
	_ = s.closeSegment()
	if s.dir == nil {
		dir, err := s.openDir()
		if err != nil {
			return s.fault("%w%s", err, advice(err))
		}
		s.dir = dir
	}
	if err := s.checkAndRestore(); err != nil {
		return err
	}
	if !s.loaded {
		s.loaded = true
		s.fence.Loaded(s.cp.state())
	}
	return nil
}

// checkAndRestore checks that a crash can explain everything in the directory, and
// then restores the state of its checkpoint and opens the open segment. Until all
// checks have passed it changes nothing.
func (s *store) checkAndRestore() error {
	if err := s.dir.check(); err != nil {
		return s.fail("check the directory", err)
	}
	// The names read below may be those of a process that died before it synced
	// them. Without this sync a power cut could bring back the older checkpoint
	// after this process has acted on the newer one.
	if err := s.dir.Sync(); err != nil {
		return s.fail("sync the directory", err)
	}
	names, err := s.dir.List()
	if err != nil {
		return s.fail("list the directory", err)
	}
	slices.Sort(names)
	if !slices.Contains(names, checkpointName) {
		return s.start(names)
	}
	cp, err := s.read()
	if err != nil {
		return err
	}
	if s.name == "" {
		s.name = cp.Name
	}
	if s.name != cp.Name {
		return s.fault("the directory belongs to %q, not to %q: use another directory, or the Name that it has", cp.Name, s.name)
	}
	leftover, err := s.inspect(cp, names)
	if err != nil {
		return err
	}
	unnamed := slices.DeleteFunc(slices.Clone(cp.Sealed), func(seg sealed) bool {
		return !slices.Contains(names, seg.File+openSuffix)
	})
	if err := s.verify(cp, unnamed); err != nil {
		return err
	}
	return s.restore(cp, leftover, unnamed)
}

// restore brings the directory to the state of its checkpoint. It removes files and
// bytes that were never committed, and gives sealed segments their final names.
func (s *store) restore(cp checkpoint, leftover []string, unnamed []sealed) (err error) {
	s.stored = true
	for _, name := range leftover {
		if err := s.dir.Remove(name); err != nil {
			return s.fail("remove "+name, err)
		}
	}
	for i := range cp.Sealed {
		if cp.Sealed[i].Time.IsZero() { // an earlier release has sealed it
			cp.Sealed[i].Time = s.now().UTC()
		}
	}
	s.cp = cp
	for _, seg := range unnamed {
		if s.open, err = s.cut(seg.File, seg.Bytes); err != nil {
			return err
		}
		if err := s.closeSegment(); err != nil {
			return err
		}
	}
	if cp.Offset > 0 {
		if s.open, err = s.cut(cp.File, cp.Offset); err != nil {
			return err
		}
	}
	if err := s.publish(unnamed); err != nil {
		return err
	}
	s.broken = false
	return nil
}

// start stores the first checkpoint of a new directory.
func (s *store) start(names []string) error {
	if s.stored {
		return s.fault("the checkpoint no longer exists: stop the pipeline, then restore the files of the directory, or open it again for a new start")
	}
	for _, name := range names {
		if of, _, ok := parseSegment(name); ok && (of == s.name || s.name == "") {
			return s.fault("there are segments, such as %s, but no checkpoint: restore the checkpoint, or move the segments away for a new start", name)
		}
	}
	if s.mustExist {
		return s.fault("%w", errMustExist)
	}
	if s.name == "" {
		s.name = "rows"
	}
	err := s.save(checkpoint{
		Version: checkpointVersion, Name: s.name, Segment: 1,
		History: []entry{{Entry: Entry{Time: s.now().UTC()}}},
	})
	s.broken = err != nil
	return err
}

func (s *store) read() (checkpoint, error) {
	text, err := s.dir.ReadFile(checkpointName)
	if err != nil {
		return checkpoint{}, s.fail("read the checkpoint", err)
	}
	cp, err := decodeCheckpoint(text)
	if err != nil {
		return cp, s.fault("the checkpoint cannot be used: %w: restore it, or move all files away for a new start", err)
	}
	return cp, nil
}

// inspect returns the files that were never committed. What no crash can leave is
// an error.
func (s *store) inspect(cp checkpoint, names []string) (leftover []string, err error) {
	for _, name := range names {
		if durable.IsTemp(name, checkpointName) || formerTemp.MatchString(name) {
			leftover = append(leftover, name)
			continue
		}
		of, number, ok := parseSegment(name)
		if !ok || of != cp.Name {
			continue
		}
		final, isOpen := strings.CutSuffix(name, openSuffix)
		listed := slices.ContainsFunc(cp.Sealed, func(seg sealed) bool { return seg.File == final })
		switch {
		case !isOpen && number >= cp.Segment:
			return nil, s.outdated(cp, names, name, number)
		case !isOpen || final == cp.File:
		case number >= cp.Segment:
			leftover = append(leftover, name)
		case !listed:
			return nil, s.fault("%s is open, but the checkpoint is at segment %d already: an old file was put back; move it away", name, cp.Segment)
		case slices.Contains(names, final):
			return nil, s.fault("both %s and %s exist: an old file was put back; move one away", final, name)
		}
	}
	if cp.Offset > 0 && !slices.Contains(names, cp.File+openSuffix) {
		return nil, s.fault("the open segment %s no longer exists: put it back; without it, %d rows are lost", cp.File+openSuffix, cp.Rows)
	}
	for _, name := range leftover {
		if info, err := s.dir.Lstat(name); err != nil {
			return nil, s.fail("read "+name, err)
		} else if !info.Mode().IsRegular() {
			return nil, s.fault("%s has the name of a file of the sink and is not a regular file: move it away", name)
		}
	}
	return leftover, nil
}

// outdated is the error about a sealed segment that the checkpoint does not know.
// If the checkpoint has an open segment, that one must stay, under its open name.
func (s *store) outdated(cp checkpoint, names []string, name string, number uint64) error {
	from, and := cp.Segment, ""
	if cp.Offset > 0 {
		from++
		if open := cp.File + openSuffix; !slices.Contains(names, open) {
			and = fmt.Sprintf(", and rename %s to %s", cp.File, open)
		} else if number == cp.Segment {
			and = ", and " + name
		}
	}
	return s.fault("%s is sealed, but the checkpoint is still at segment %d: it is older than the segments, so rows would be delivered twice; stop the pipeline, then restore the newest checkpoint, or move away the segments from %d on%s", name, cp.Segment, from, and)
}

// verify compares the content of the segments that end in .open with the checkpoint.
func (s *store) verify(cp checkpoint, unnamed []sealed) error {
	for _, seg := range unnamed {
		if err := s.verifyFile(seg.File, seg.Bytes, seg.Tail, seg.CRC); err != nil {
			return err
		}
	}
	if cp.Offset == 0 {
		return nil
	}
	return s.verifyFile(cp.File, cp.Offset, cp.Tail, cp.CRC)
}

// verifyFile checks that a segment has at least the committed size, and the
// checksum of the tail before that.
func (s *store) verifyFile(segment string, committed, tail int64, crc uint32) error {
	name := segment + openSuffix
	f, err := s.dir.open(name, os.O_RDWR)
	if err != nil {
		return s.fail("open "+name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return s.fail("read "+name, err)
	}
	if info.Size() < committed {
		return s.fault("%s has %d bytes, but %d were committed: restore the file", name, info.Size(), committed)
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(f, committed-tail, tail)); err != nil {
		return s.fail("read "+name, err)
	}
	if sum.Sum32() != crc {
		return s.fault("the last %d bytes of %s have changed since they were written: restore the file", tail, name)
	}
	return nil
}

// cut opens a segment and truncates it, durably, to its committed size. It does so
// even if the file has this size: an earlier recovery may have truncated it and
// failed to sync.
func (s *store) cut(segment string, committed int64) (file, error) {
	name := segment + openSuffix
	f, err := s.dir.open(name, os.O_RDWR)
	if err != nil {
		return nil, s.fail("open "+name, err)
	}
	err = f.Truncate(committed)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close()
		return nil, s.fail("truncate "+name+" to its committed size", err)
	}
	return f, nil
}

// parseSegment is the inverse of segmentName.
func parseSegment(file string) (name string, number uint64, ok bool) {
	m := segmentFile.FindStringSubmatch(file)
	if m == nil {
		return "", 0, false
	}
	number, err := strconv.ParseUint(m[2], 10, 64)
	return m[1], number, err == nil
}

func segmentName(name string, number uint64, extension string) string {
	return fmt.Sprintf("%s-%010d%s", name, number, extension) // a segment a second for 300 years
}

// formerTemp matches the temporary files of releases before package durable.
var formerTemp = regexp.MustCompile(`^checkpoint\.[A-Z2-7]{26}\.tmp$`)

var segmentFile = regexp.MustCompile(`^(.+)-([0-9]{10})\.[A-Za-z0-9_.]+$`)
