-- The query of Pasquet et al. 2018 (A&A 621, A26), appendix, with two repairs that it needs to run: zi.subclass has an
-- alias, for a table cannot have two columns of one name, and WHERE repeats the expression behind dered_petro_r.
-- Redshifts above 0.4 and repeat spectra are left to the selection, which counts them.
SELECT za.specObjID, za.bestObjID, za.class, za.subClass, za.z, za.zErr,
  po.objID, po.type, po.flags, po.ra, po.dec,
  (po.petroMag_r - po.extinction_r) AS dered_petro_r,
  zp.z AS zphot, zp.zErr AS dzphot,
  zi.e_bv_sfd, zi.primtarget, zi.sectarget, zi.targettype, zi.spectrotype, zi.subclass AS zi_subclass
INTO mydb.sdss_photoz_galaxies
FROM SpecObjAll za
  JOIN PhotoObjAll po ON (po.objID = za.bestObjID)
  JOIN Photoz zp ON (zp.objID = za.bestObjID)
  JOIN galSpecInfo zi ON (zi.specObjID = za.specObjID)
WHERE
  (za.z > 0 AND za.zWarning = 0)
  AND (za.targetType = 'SCIENCE' AND za.survey = 'sdss')
  AND (za.class = 'GALAXY' AND zi.primtarget >= 64)
  AND (po.clean = 1 AND po.insideMask = 0)
  AND ((po.petroMag_r - po.extinction_r) <= 17.8)
