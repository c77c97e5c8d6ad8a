package filesink

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// footed is an encoder of the kind of Parquet: each piece ends in a footer that says
// where the pieces of the segment are, its own and those before, which it reads from
// the footer before. Other footers are dead bytes between the pieces.
//
//	lines, then for each piece: start and end, then the number of pieces
type footed struct{ Encoder[record] }

func (footed) Extension() string { return ".foot" }

func (footed) End(dst []byte, start int, before *io.SectionReader) ([]byte, error) {
	footer, err := readFooter(before)
	if err != nil {
		return dst, err
	}
	begin := uint32(before.Size())
	footer = append(footer, begin, begin+uint32(len(dst)-start))
	for _, n := range append(footer, uint32(len(footer)/2)) {
		dst = binary.BigEndian.AppendUint32(dst, n)
	}
	return dst, nil
}

func readFooter(r *io.SectionReader) ([]uint32, error) {
	if r.Size() == 0 {
		return nil, nil
	}
	tail := make([]byte, 4)
	if _, err := r.ReadAt(tail, r.Size()-4); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(tail))
	if r.Size() < 8*n+4 {
		return nil, errors.New("no footer")
	}
	text := make([]byte, 8*n)
	if _, err := r.ReadAt(text, r.Size()-4-8*n); err != nil {
		return nil, err
	}
	footer := make([]uint32, 2*n)
	for i := range footer {
		footer[i] = binary.BigEndian.Uint32(text[4*i:])
	}
	return footer, nil
}

var zipped = Gzip(JSONLines[record]()) // one for all worlds, because a compressor is large

// parted is an encoder of lines that writes each second record in two parts.
type parted struct{ Encoder[record] }

func (p parted) large(r *record) func(io.Writer) error {
	line, err := p.Append(nil, r)
	if err != nil || line[len(line)/2]%2 == 0 {
		return nil
	}
	return func(w io.Writer) error {
		_, err := w.Write(line[:len(line)/2])
		if err == nil {
			_, err = w.Write(line[len(line)/2:])
		}
		return err
	}
}

// encoder returns the encoder of a world, by its seed.
func (w *world) encoder() Encoder[record] {
	switch w.seed % 16 {
	case 0:
		return zipped
	case 1:
		return footed{JSONLines[record]()}
	case 2, 3:
		return parted{JSONLines[record]()}
	}
	return nil // JSONLines
}

// decode returns the lines of a segment, which is complete.
func decode(name, content string) (string, error) {
	switch {
	case strings.HasSuffix(name, ".gz"):
		r, err := gzip.NewReader(strings.NewReader(content))
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(r)
		return string(text), err
	case strings.HasSuffix(name, ".foot"):
		footer, err := readFooter(io.NewSectionReader(strings.NewReader(content), 0, int64(len(content))))
		var text bytes.Buffer
		for i := 0; i < len(footer); i += 2 {
			text.WriteString(content[footer[i]:footer[i+1]])
		}
		return text.String(), err
	}
	return content, nil
}
