package filesink

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
)

// Encoder turns records into the bytes of a segment. A segment consists of pieces:
// the records of one Write that go into it. A crash, or an error, cuts a segment off
// after its last committed piece, and the next piece follows there. So a segment
// must be complete after each piece. An Encoder keeps no state between pieces. It can
// read the segment instead.
//
// A format that cannot be continued after its end, such as one JSON array, needs a
// segment for each Write: set Options.SegmentRows to 1.
//
// A [Dir] calls its Encoder from one goroutine at a time. An Encoder that is shared
// by several Dirs must be safe for concurrent use, as those of this package are.
type Encoder[T any] interface {
	// Extension returns the last part of the segments' names, such as ".jsonl".
	Extension() string

	// Header appends the beginning of a segment whose first record is the given
	// one. Most formats append nothing. An error rejects the batch, see
	// sink.Reject.
	Header(dst []byte, record *T) ([]byte, error)

	// Append appends one record to the piece: at least one byte. An error rejects
	// the batch.
	Append(dst []byte, record *T) ([]byte, error)

	// End ends the piece, which is dst[start:] and begins with the Header in a new
	// segment. It may replace it, and returns dst[:start] with the bytes to write,
	// at least one. Before is what the segment has before the piece. Line formats
	// return dst. An error is one of the Write, and rejects nothing.
	End(dst []byte, start int, before *io.SectionReader) ([]byte, error)
}

// lines is an Encoder whose End does nothing. So the records of a piece need not be
// in memory together.
type lines[T any] interface {
	Encoder[T]

	// large returns a function that writes the record in parts. It is nil if the
	// record is small, or cannot be written so.
	large(record *T) func(io.Writer) error
}

// largeRecord is the size in bytes from which a record is written in parts.
const largeRecord = 1 << 20

// sized is a record that knows its size, as row.Row does.
type sized interface{ Size() int }

// largeAs returns the record as an M if it is large and one.
func largeAs[M sized, T any](as func(*T) (M, bool), record *T) (m M, ok bool) {
	if as != nil {
		m, ok = as(record)
	}
	return m, ok && m.Size() >= largeRecord
}

// JSONLines returns an encoder for JSON Lines: each record is one JSON value on
// one line of UTF-8 that ends in a line feed.
//
// If T or *T has a method AppendJSON([]byte) ([]byte, error), as row.Row has, that
// method encodes the record. Its output is not checked, but must be one line. Any
// other T is encoded by encoding/json, without escaping <, > and &.
//
// If it also has the methods Size() int and WriteJSON(io.Writer) error, as row.Row
// has, a record with a Size of 1 MiB or more is written by WriteJSON, in parts.
func JSONLines[T any]() Encoder[T] {
	e := jsonLines[T]{writer: methodOf[T, jsonWriter]()}
	if as := methodOf[T, jsonAppender](); as != nil {
		e.appendJSON = func(dst []byte, r *T) ([]byte, error) {
			a, ok := as(r)
			if !ok {
				return dst, errors.New("the record is nil")
			}
			return a.AppendJSON(dst)
		}
	}
	return e
}

// methodOf returns a function that converts a record to M, which T or *T
// implements, and nil if neither does. The function returns false for a nil
// interface.
func methodOf[T, M any]() func(*T) (M, bool) {
	t, method := reflect.TypeFor[T](), reflect.TypeFor[M]()
	switch {
	case reflect.PointerTo(t).Implements(method): // first, because it copies nothing
		return func(r *T) (M, bool) { return any(r).(M), true }
	case t.Implements(method):
		return func(r *T) (M, bool) { m, ok := any(*r).(M); return m, ok }
	}
	return nil
}

type jsonAppender interface {
	AppendJSON(dst []byte) ([]byte, error)
}

type jsonWriter interface {
	jsonAppender
	sized
	WriteJSON(w io.Writer) error
}

type jsonLines[T any] struct {
	writer     func(*T) (jsonWriter, bool)                 // nil: records have no WriteJSON
	appendJSON func(dst []byte, record *T) ([]byte, error) // nil: encoding/json
}

func (e jsonLines[T]) Extension() string                       { return ".jsonl" }
func (e jsonLines[T]) Header(dst []byte, _ *T) ([]byte, error) { return dst, nil }

func (e jsonLines[T]) End(dst []byte, _ int, _ *io.SectionReader) ([]byte, error) {
	return dst, nil
}

func (e jsonLines[T]) large(record *T) func(io.Writer) error {
	r, ok := largeAs(e.writer, record)
	if !ok {
		return nil
	}
	return func(w io.Writer) error {
		if err := r.WriteJSON(oneLine{w}); err != nil {
			return err
		}
		_, err := w.Write([]byte{'\n'})
		return err
	}
}

var errLineFeed = errors.New("its JSON has a line feed: a value of JSON Lines must be one line")

// oneLine refuses line feeds.
type oneLine struct{ w io.Writer }

func (o oneLine) Write(p []byte) (int, error) {
	if bytes.IndexByte(p, '\n') >= 0 {
		return 0, errLineFeed
	}
	return o.w.Write(p)
}

func (e jsonLines[T]) Append(dst []byte, record *T) ([]byte, error) {
	if e.appendJSON == nil {
		buf := bytes.NewBuffer(dst)
		encoder := json.NewEncoder(buf)
		encoder.SetEscapeHTML(false)
		err := encoder.Encode(record) // compacts the output of a Marshaler, and ends the line
		return buf.Bytes(), err
	}
	start := len(dst)
	dst, err := e.appendJSON(dst, record)
	switch {
	case err != nil:
		return dst, err
	case len(dst) <= start:
		return dst, errors.New("AppendJSON appended nothing")
	case bytes.IndexByte(dst[start:], '\n') >= 0:
		return dst, errLineFeed
	}
	return append(dst, '\n'), nil
}

// CSVRecord is a record that encodes itself as CSV, as row.Row does.
type CSVRecord interface {
	// AppendCSV appends the record, line end included.
	AppendCSV(dst []byte) ([]byte, error)
	// AppendCSVHeader appends the names of its columns, line end included.
	AppendCSVHeader(dst []byte) []byte
}

// CSV returns an encoder for CSV by RFC 4180: a header in each segment, then one
// line per record. The lines of row.Row end in CR LF. They distinguish NULL (no
// text) from the empty string (""). A record that has the methods Size() int and
// WriteCSV(io.Writer) error, as row.Row has, is written by WriteCSV, in parts, if its
// Size is 1 MiB or more.
func CSV[T CSVRecord]() Encoder[T] { return csv[T]{methodOf[T, csvWriter]()} }

type csvWriter interface {
	sized
	WriteCSV(w io.Writer) error
}

type csv[T CSVRecord] struct {
	writer func(*T) (csvWriter, bool) // nil: records have no WriteCSV
}

func (e csv[T]) large(record *T) func(io.Writer) error {
	r, ok := largeAs(e.writer, record)
	if !ok {
		return nil
	}
	return r.WriteCSV
}

func (csv[T]) Extension() string { return ".csv" }

func (csv[T]) Header(dst []byte, record *T) ([]byte, error) {
	return (*record).AppendCSVHeader(dst), nil
}

func (csv[T]) End(dst []byte, _ int, _ *io.SectionReader) ([]byte, error) { return dst, nil }

func (csv[T]) Append(dst []byte, record *T) ([]byte, error) {
	start := len(dst)
	dst, err := (*record).AppendCSV(dst)
	if err == nil && (len(dst) <= start || dst[len(dst)-1] != '\n') {
		err = errors.New("AppendCSV appended no line end")
	}
	return dst, err
}
