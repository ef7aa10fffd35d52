// SPDX-License-Identifier: Apache-2.0

// Package backend is the engine that programs which build things out of images need:
// it keeps images, moves them between a store, archives and registries, and takes their
// root filesystems out. There is no daemon behind it, and no other program: the store is
// an OCI layout, which anything else may use at the same time.
//
// [Backend] is the interface, and [Store] the implementation; start with [Open]. Images
// are called as docker calls them: HOST/REPO:TAG, where Docker Hub, its library and the
// tag latest may be left out. In the layout a name is a ref.
//
// The operations are those that luet's builder knows under other names:
//
//	luet                   here                      on the command line
//	BuildImage             Backend.Build             none: see ErrBuild
//	ExportImage            Backend.Export            shale copy STORE:NAME docker-archive:FILE:NAME
//	LoadImage              Backend.Load              shale copy --all-tags docker-archive:FILE STORE
//	RemoveImage            Backend.Remove            shale rm --image STORE:NAME; shale gc --layout STORE
//	ImageDefinitionToTar   Backend.DefinitionToTar   the above, one after the other
//	ExtractRootfs          Backend.Extract           shale raw unpack --image STORE:NAME DIR
//	CopyImage              Backend.Copy              shale tag --image STORE:NAME OTHER
//	DownloadImage          Backend.Download          shale pull docker://NAME --image STORE:NAME
//	Push                   Backend.Push              shale push --image STORE:NAME docker://NAME
//	ImageAvailable         Backend.Available         shale exists docker://NAME
//	ImageExists            Backend.Exists            shale exists STORE:NAME
package backend
