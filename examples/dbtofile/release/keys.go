package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"aead.dev/minisign"
)

// keygen makes a key, and does not replace one.
func keygen(name, password string, out io.Writer) error {
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		return err
	}
	var secret []byte
	if password == "" {
		secret, err = private.MarshalText()
	} else {
		secret, err = minisign.EncryptKey(password, private)
	}
	if err != nil {
		return err
	}
	shown, err := public.MarshalText()
	if err != nil {
		return err
	}
	if err := create(name+".key", secret, 0o600); err != nil {
		return err
	}
	if err := create(name+".pub", shown, 0o644); err != nil {
		return errors.Join(err, os.Remove(name+".key"))
	}
	_, err = fmt.Fprintf(out, "%s.key signs: keep it from others, and a copy off this machine\n%s.pub is to be trusted: install it in /etc/dbtofile/keys\n", name, name)
	return err
}

func create(name string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(append(bytes.TrimSpace(text), '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

// readKey reads a secret key, which may have a password.
func readKey(name, password string) (key minisign.PrivateKey, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return key, err
	}
	text = bytes.TrimSpace(text)
	switch {
	case !minisign.IsEncrypted(text):
		err = key.UnmarshalText(text)
	case password == "":
		err = errors.New("it has a password: give -password-file or DBTOFILE_RELEASE_PASSWORD")
	default:
		key, err = minisign.DecryptKey(password, text)
	}
	if err != nil {
		return key, fmt.Errorf("key %s: %w", name, err)
	}
	return key, nil
}
