package filesink

// DecodeVersion reads a checkpoint of that version.
func DecodeVersion(v int) error {
	text, err := checkpoint{Version: v}.encode()
	if err != nil {
		return err
	}
	_, err = decodeCheckpoint(text)
	return err
}
