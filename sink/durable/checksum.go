package durable

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// The text is {"crc32c":"01234567","checkpoint":BODY} and a line feed. It is JSON,
// and the checksum has a fixed position.
const (
	beforeSum  = `{"crc32c":"`
	beforeBody = `","checkpoint":`
	afterBody  = "}\n"
	bodyAt     = len(beforeSum) + 8 + len(beforeBody)
)

// AddChecksum returns the text of a small file: body, which is JSON, in an object
// with its CRC-32C.
func AddChecksum(body []byte) []byte {
	return slices.Concat(head(body), body, []byte(afterBody))
}

func head(body []byte) []byte {
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	return fmt.Appendf(nil, "%s%08x%s", beforeSum, sum, beforeBody)
}

// HasChecksum reports whether a text begins like one of [AddChecksum].
func HasChecksum(text []byte) bool { return bytes.HasPrefix(text, []byte(beforeSum)) }

// VerifyChecksum returns the body of a text that [AddChecksum] has returned. Any other
// text is an error: the file is damaged, or someone has edited it.
func VerifyChecksum(text []byte) (body []byte, err error) {
	if len(text) < bodyAt+len(afterBody) {
		return nil, fmt.Errorf("it is cut off after %d bytes", len(text))
	}
	body = text[bodyAt : len(text)-len(afterBody)]
	if !bytes.HasPrefix(text, head(body)) || !bytes.HasSuffix(text, []byte(afterBody)) {
		return nil, errors.New("it does not match its checksum")
	}
	return body, nil
}
